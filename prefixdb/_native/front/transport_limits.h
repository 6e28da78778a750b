// What a connection may cost and how long it may take: the same numbers, for the same reasons, as
// prefixdb/server/transport.py and prefixdb/limits.py. Tests make them smaller.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "front/facts.h"

namespace prefixdb::front {

struct Limits {
  using Ms = std::chrono::milliseconds;

  // --- time
  Ms handshake{10'000};  // TLS, preface and SETTINGS; also any one block of headers, however slowly it trickles in.
  Ms idle{10 * 60'000};  // Without a call; clients open a new connection without noticing.
  Ms age{60 * 60'000};   // Then it is asked to end, which spreads clients again; calls on it go on for ...
  Ms age_grace{10 * 60'000};
  Ms keepalive{30'000};  // A silent peer is asked whether it is there, and is gone without an answer in ...
  Ms keepalive_answer{10'000};
  Ms goaway_notice{1'000};  // Between "open no more calls" and "these were the last", for calls that are on their way.
  Ms write_stall{60'000};   // The kernel takes nothing for the peer, though it may go on sending.
  Ms sweep{200};            // Open calls and connections are looked at; a fifth of the second a stream must end within.
  Ms arrival{kRequestArrivalMsMax};
  Ms slow_reader{kSlowReaderMsMax};
  Ms pipeline_idle{kPipelineIdleMsMax};

  // --- memory
  uint32_t streams = kStreamsPerConnectionMax;
  uint32_t header_bytes = kMetadataBytesMax;   // As HTTP/2 counts: 32 for each entry beside name and value.
  uint32_t header_bytes_fatal = 64 * 1024;     // Nobody mistakes itself by so much: the connection ends.
  size_t message_bytes = kRequestBytesMax;     //
  int32_t stream_window = 64 * 1024;           // Before a call is admitted, and between messages.
  int32_t stream_window_large = 1024 * 1024;   // While a message above the first window comes.
  int32_t connection_window = 512 * 1024;      // What a connection may have on its way though `incoming` is used up.
  size_t incoming = 128u << 20;                // Messages that are not whole, of all connections of one loop.
  size_t incoming_per_connection = 64u << 20;  //
  size_t small_reply = 4 * 1024;               // Answers up to this are not counted as unread (unread.h).
  size_t write_at_once = 64 * 1024;            // Frames are made only while less than this waits for the kernel.
  size_t flush_per_pass = 1024 * 1024;         // Then the other connections have their turn.
  size_t read_per_pass = 64 * 1024;            //
  size_t unpacked_per_pass = 1024 * 1024;  // Of compressed messages, all connections of a loop; the last may be large.
  size_t frames_waiting = 1'000;           // Frames we owe a peer that reads nothing; beyond, it is not read from.

  // --- floods: a bucket of so many, and so many more each second
  struct Bucket {
    double burst;
    double per_second;
  };
  Bucket resets{10'000, 1'000};          // A call that is reset costs about as much as one that is answered.
  Bucket settings{20, 0.2};              // Clients send them once, or once in a while.
  Bucket priorities{1'000, 100};         // Ignored; gRPC sends none.
  Bucket empty_data{1'000, 100};         // Neither bytes nor the end of a message.
  Bucket window_updates{10'000, 1'000};  // Beside `window_updates_per_data`.
  double window_updates_per_data = 8;    // For each DATA frame we sent.
  Bucket unknown{100, 10};               // Frames HTTP/2 does not know, and those nghttp2 found something wrong with.
  Bucket refused{1'000, 100};            // Calls beyond `streams`, and those whose headers are too large.
  Ms ping{5'000};                        // A client that pings more often while it is sent nothing gets strikes.
  int ping_strikes = 3;
};

}  // namespace prefixdb::front
