// The headers of one request, as they came, and what the transport has to know of them.
//
// One string holds them all, since nearly no call needs more than a few: those that are forwarded or handed to Python.
//
//   entry := name length u16 | value length u32 | name | value        (of this machine's byte order)
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "front/upstream.h"

namespace prefixdb::front {

// Belongs to its call.
class RequestHead {
 public:
  // Takes an entry. Names are in lower case, pseudo-headers first: nghttp2 sees to that. Beyond `bytes_max`, as HTTP/2
  // counts them, nothing is kept any more.
  void Add(std::string_view name, std::string_view value, size_t bytes_max);

  size_t bytes() const noexcept { return bytes_; }  // As HTTP/2 counts, 32 for each entry.
  std::string_view path() const noexcept { return View(path_); }
  bool is_path_ascii() const noexcept { return path_ascii_; }

  // Whether it is a gRPC call as nearly every client makes it: POST, te, content-type, a known encoding and timeout.
  // What is not is judged by gRPC's own server, behind us: it knows one encoding more, takes any content-type, and
  // resets odd calls.
  bool is_plain() const noexcept { return post_ && te_ && grpc_ && !odd_; }
  bool gzip() const noexcept { return gzip_; }
  std::optional<std::chrono::milliseconds> timeout() const noexcept { return timeout_; }
  int authorizations() const noexcept { return authorizations_; }
  std::string_view authorization() const noexcept { return View(authorization_); }

  // All of them without those that only we may say; grpc-timeout replaced when `timeout` is given.
  Headers ToHeaders(std::optional<std::chrono::milliseconds> timeout) const;
  void Clear();

 private:
  struct Place {
    uint32_t at = 0;
    uint32_t size = 0;
  };
  std::string_view View(Place place) const noexcept { return std::string_view(entries_).substr(place.at, place.size); }
  void Note(std::string_view name, std::string_view value, Place place);

  std::string entries_;
  size_t bytes_ = 0;
  Place path_;
  Place authorization_;
  int authorizations_ = 0;
  bool path_ascii_ = true;
  bool post_ = false;
  bool te_ = false;
  bool grpc_ = false;
  bool gzip_ = false;
  bool odd_ = false;
  std::optional<std::chrono::milliseconds> timeout_;
};

}  // namespace prefixdb::front
