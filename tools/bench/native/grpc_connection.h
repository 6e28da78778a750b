// One HTTP/2 connection that keeps a number of gRPC calls in flight, as any gRPC client does, and counts their answers.
//
// Every call must end with HTTP status 200, `grpc-status: 0` and no message cut off; anything else is a failure, and
// its text is kept. A call is over when its stream is closed, so the trailers are part of its time. In a bidirectional
// stream every message sent and its answer count as one call.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "histogram.h"
#include "replay.h"

namespace bench {

using Headers = std::vector<std::pair<std::string, std::string>>;

// What all connections of a run do.
struct Plan {
  Headers headers;
  Replay replay;
  bool bidirectional = false;
};

// What all connections of a run count. `measuring` splits the run: before and after it only `*_all` count.
struct Tally {
  bool measuring = false;
  bool stopping = false;  // No call is begun any more.
  uint64_t calls = 0;
  uint64_t messages = 0;  // Of the answers; a call may have many.
  uint64_t bytes = 0;     // Of those messages, their five bytes of framing included.
  uint64_t calls_all = 0;
  uint64_t messages_all = 0;
  uint64_t bytes_all = 0;
  uint64_t smallest = UINT64_MAX;  // Bytes of one call's whole answer, in all of the run.
  uint64_t largest = 0;
  uint64_t failed = 0;
  std::string first_failure;
  Histogram latency;
};

// Not thread-safe; lives in one epoll loop.
class Connection {
 public:
  // Takes over a connected, non-blocking socket. `first_draw`: where in the order of draws it begins, so that
  // connections do not all ask for the same keys at the same time.
  Connection(int socket, const Plan& plan, Tally* tally, size_t in_flight, size_t first_draw);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int socket() const { return socket_; }
  size_t in_flight() const { return in_flight_; }
  bool wants_write() const { return sent_ < out_.size(); }

  // Begins the calls.
  void Start();
  // Reads what is there and answers it.
  void Receive();
  // Sends what is due; what the socket does not take is kept for the next time.
  void Send();
  // Tells idle bidirectional streams to end, after `stopping` was set.
  void EndStreams();

 private:
  struct Slot {
    int32_t stream_id = -1;
    uint64_t begun_ns = 0;
    const std::string* out = nullptr;  // What is being sent; nullptr when all of it was.
    size_t out_sent = 0;
    std::string status;
    std::string grpc_status;
    std::string grpc_message;
    unsigned char head[5] = {};
    size_t head_size = 0;
    uint64_t message_left = 0;
    uint64_t message_size = 0;
    uint64_t answer_size = 0;
  };

  void Begin(Slot* slot);
  void TakeNext(Slot* slot);
  void OnData(Slot* slot, const uint8_t* data, size_t size);
  void OnMessage(Slot* slot);
  void OnEnd(Slot* slot, uint32_t error_code);
  void Count(Slot* slot);
  // Has a body that had nothing to send asked again.
  void Wake(const Slot& slot);

  static nghttp2_session_callbacks* Callbacks();
  static ssize_t ReadBody(nghttp2_session* session, int32_t stream_id, uint8_t* buffer, size_t size, uint32_t* flags,
                          nghttp2_data_source* source, void* self);
  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t flags, void* self);
  static int OnDataChunk(nghttp2_session* session, uint8_t flags, int32_t stream_id, const uint8_t* data, size_t size,
                         void* self);
  static int OnStreamClose(nghttp2_session* session, int32_t stream_id, uint32_t error_code, void* self);

  const int socket_;
  const Plan& plan_;
  Tally* const tally_;
  std::vector<nghttp2_nv> headers_;
  std::vector<Slot> slots_;
  size_t next_draw_;
  size_t in_flight_ = 0;
  nghttp2_session* session_ = nullptr;
  std::string out_;
  size_t sent_ = 0;
};

}  // namespace bench
