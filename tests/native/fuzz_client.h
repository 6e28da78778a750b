// The client of the fuzzed connection: what an input has it send and read.
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <utility>

#include "front/methods.h"
#include "front_client.h"
#include "fuzz.h"
#include "fuzz_frames.h"
#include "fuzz_ground.h"
#include "fuzz_requests.h"
#include "gzip_support.h"

namespace prefixdb::test {

class FuzzedClient {
 public:
  // `pass`: returns when the server has looked at what was sent.
  FuzzedClient(Decisions* input, int fd, std::function<void()> pass)
      : input_(*input), fd_(fd), pass_(std::move(pass)) {}
  ~FuzzedClient() { Leave(); }
  FuzzedClient(const FuzzedClient&) = delete;
  FuzzedClient& operator=(const FuzzedClient&) = delete;

  void Greet() {
    Write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    Write(Frame(NGHTTP2_SETTINGS, 0, 0));
  }
  void SendBytes() { Write(Text(4096)); }
  void GiveRoom() {
    const size_t bytes = input_.Below(4) * 100'000;
    Write(Windows(bytes + input_.Byte()));
  }
  void Leave() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

  // A call of a real method, whole: a unary one, or a Pipeline with its first messages.
  void SendRequest() {
    const auto method = static_cast<front::NativeMethod>(input_.Below(front::kNativeMethods));
    const uint8_t how = input_.Byte();
    Fields more;
    more.emplace_back("authorization", (how & 3) == 3 ? "Bearer unknown" : "Bearer good");
    if ((how & 12) == 4) more.emplace_back("grpc-timeout", "2S");
    if ((how & 12) == 8) more.emplace_back("grpc-encoding", "gzip");
    std::string bytes = Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, next_id_,
                              Block(CallHead(std::string(front::FactsOf(method).path), more)));
    const uint8_t end = (how & 16) == 0 ? NGHTTP2_FLAG_END_STREAM : 0;
    bytes += DataFrames(next_id_, Message(method, (how & 12) == 8), end);
    next_id_ += 2;
    // The last frame may be left without its end: whatever comes next is taken for it.
    if ((how & 224) == 224) bytes.resize(bytes.size() - input_.Below(64) % bytes.size());
    Write(bytes);
  }

  // Messages of a Pipeline, or any bytes for a call that waits for some.
  void SendMore() {
    const uint32_t id = Id();
    const uint8_t how = input_.Byte();
    const uint8_t end = (how & 1) != 0 ? NGHTTP2_FLAG_END_STREAM : 0;
    if ((how & 6) == 6) return Write(Frame(NGHTTP2_DATA, end, id, std::string(64 * size_t{how}, '\0')));
    if ((how & 6) == 4) {
      piece_bytes_ = (how & 8) != 0 ? std::string_view::npos : 1 + how / 16;
      return;
    }
    std::string framed;
    for (size_t messages = 1 + (how >> 6); messages > 0; --messages)
      framed += Message(front::NativeMethod::kPipeline, false);
    Write(DataFrames(id, framed, end));
  }

  void SendBlock() {
    const bool ends = input_.Below(4) == 3;
    const uint32_t id = input_.Below(8) == 7 ? Id() : next_id_;
    Write(BlockMaker(&input_).Frames(id, ends));
    if (id == next_id_) next_id_ += 2;
  }

  void SendFrame() {
    const auto type = static_cast<uint8_t>(input_.Below(12));
    const uint8_t flags = input_.Byte();
    const uint32_t id = input_.Below(4) == 0 ? 0 : Id();
    Write(Frame(type, flags, id, Text(600)));
  }

  void SendCall() {
    const uint8_t how = input_.Byte();
    Fields more;
    if ((how & 1) == 0) more.emplace_back("authorization", (how & 2) == 0 ? "Bearer good" : "Bearer unknown");
    if ((how & 12) == 4) more.emplace_back("grpc-timeout", "0m");
    if ((how & 12) == 8) more.emplace_back("grpc-encoding", "gzip");
    if ((how & 16) != 0) more.emplace_back("x", Text(9000));
    static constexpr std::array<std::string_view, 9> kPaths = {"/fake/Echo", "/fake/Later", "/fake/Put",
                                                               "/fake/Punt", "/fake/Act",   "/fake/Scan",
                                                               "/fake/Pipe", "/other/One",  "/"};
    const std::string path(kPaths[input_.Below(kPaths.size())]);
    const uint8_t end = (how & 32) != 0 ? NGHTTP2_FLAG_END_STREAM : 0;
    Write(Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | end, next_id_, Block(CallHead(path, more))));
    if ((how & 64) != 0) Write(Frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, next_id_, Framed("hold")));
    next_id_ += 2;
  }

  void SendMessage() {
    const uint8_t how = input_.Byte();
    const uint8_t end = (how & 1) != 0 ? NGHTTP2_FLAG_END_STREAM : 0;
    std::string framed = Framed(Text(2000), (how & 2) != 0 ? static_cast<uint8_t>(how >> 5) : 0);
    if ((how & 4) != 0) framed.resize(framed.size() / 2);
    Write(Frame(NGHTTP2_DATA, end, Id(), framed));
  }

  // The kernel holds little of what the server sends: there is a pass between two reads.
  void ReadSome() {
    std::string buffer(64 << 10, '\0');
    for (size_t reads = input_.Below(4) * 8 + 1; reads > 0; --reads) {
      const ssize_t count = recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (count > 0) {
        came_.append(buffer, 0, static_cast<size_t>(count));
        Insist(came_.find(kSecret) == std::string::npos, "another tenant's row is sent to nobody");
        came_.erase(0, came_.size() - std::min(came_.size(), kSecret.size()));
      }
      pass_();
    }
  }

 private:
  // In pieces when an input says so, each in a pass of its own.
  void Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const bool cut = pieces_left_ > 0 && piece_bytes_ < bytes.size();
      const std::string_view piece = cut ? bytes.substr(0, piece_bytes_) : bytes;
      (void)!send(fd_, piece.data(), piece.size(), MSG_NOSIGNAL);
      bytes.remove_prefix(piece.size());
      if (!cut) return;
      --pieces_left_;
      pass_();
    }
  }

  std::string Message(front::NativeMethod method, bool packed) {
    std::string message = RequestMaker(&input_).Make(method);
    if (packed && input_.Below(4) != 3) message = Packed(message);
    return Framed(message, packed ? 1 : 0);
  }

  static std::string DataFrames(uint32_t id, std::string_view bytes, uint8_t end) {
    constexpr size_t kFrameBytesMax = 16'384;
    std::string frames;
    for (; bytes.size() > kFrameBytesMax; bytes.remove_prefix(kFrameBytesMax)) {
      frames += Frame(NGHTTP2_DATA, 0, id, bytes.substr(0, kFrameBytesMax));
    }
    return frames + Frame(NGHTTP2_DATA, end, id, bytes);
  }

  uint32_t Id() { return static_cast<uint32_t>(2 * input_.Below(8) + 1); }

  std::string Text(size_t most) {
    const auto bytes = input_.Bytes(most);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  // Room on the connection, on each call, and on those to come.
  std::string Windows(size_t bytes) const {
    std::string size;
    for (int shift = 24; shift >= 0; shift -= 8) size += static_cast<char>(bytes >> shift);
    std::string frames = Frame(NGHTTP2_WINDOW_UPDATE, 0, 0, size);
    for (uint32_t id = 1; id < next_id_; id += 2) frames += Frame(NGHTTP2_WINDOW_UPDATE, 0, id, size);
    const std::string initial = std::string("\0\x04", 2) + size;
    return frames + Frame(NGHTTP2_SETTINGS, 0, 0, initial);
  }

  Decisions& input_;
  int fd_;
  const std::function<void()> pass_;
  uint32_t next_id_ = 1;
  size_t piece_bytes_ = std::string_view::npos;
  size_t pieces_left_ = 300;
  std::string came_;  // The end of it.
};

}  // namespace prefixdb::test
