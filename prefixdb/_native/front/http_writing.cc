// What a connection has to say: frames, made when the kernel takes them.

#include <span>
#include <utility>

#include "front/http_connection.h"

namespace prefixdb::front {

void HttpConnection::Flush() {
  if (closed_) return;
  bool over = false;
  try {
    over = FlushSome();
  } catch (...) {
    over = true;
  }
  if (over || broken_) return Close();
  if (std::exchange(fresh_, false)) {
    for (const auto& stream : streams_) stream->OnPassEnd();
  }
  Rewatch();
}

// Whether the connection is over.
bool HttpConnection::FlushSome() {
  if (broken_) return true;
  if (session_ == nullptr) return false;
  size_t written = 0;
  full_ = false;
  while (WriteLeftover() && !broken_) {
    if (written >= gateway_->limits.flush_per_pass) {
      full_ = true;
      return false;
    }
    if (!MakeFrames()) break;
    written += gateway_->frames.size();
    WriteFrames();
    TellFlushed();
  }
  return leftover_.empty() && nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0;
}

// False when there is nothing to send.
bool HttpConnection::MakeFrames() {
  std::string& frames = gateway_->frames;
  frames.clear();
  frames_ = &frames;
  while (frames.size() < gateway_->limits.write_at_once) {
    const uint8_t* bytes = nullptr;
    const ssize_t count = nghttp2_session_mem_send(session_, &bytes);
    if (count < 0) Break();
    if (count <= 0) break;
    frames.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(count));
  }
  frames_ = nullptr;
  return !frames.empty() && !broken_;
}

void HttpConnection::WriteFrames() {
  const std::string& frames = gateway_->frames;
  const size_t taken = Write({reinterpret_cast<const uint8_t*>(frames.data()), frames.size()});
  if (taken < frames.size() && !broken_) {
    leftover_.assign(frames, taken);
    leftover_at_ = 0;
  }
}

// True when nothing is left over.
bool HttpConnection::WriteLeftover() {
  if (leftover_.empty()) return true;
  const std::span<const char> rest(leftover_.data() + leftover_at_, leftover_.size() - leftover_at_);
  leftover_at_ += Write({reinterpret_cast<const uint8_t*>(rest.data()), rest.size()});
  if (leftover_at_ < leftover_.size()) return false;
  std::string().swap(leftover_);
  leftover_at_ = 0;
  return true;
}

// How many bytes the kernel took.
size_t HttpConnection::Write(std::span<const uint8_t> bytes) {
  size_t taken = 0;
  while (taken < bytes.size()) {
    const Socket::Progress progress = socket_->Write(bytes.subspan(taken));
    if (progress.io == Socket::Io::kAgain) break;
    if (progress.io != Socket::Io::kDone) {
      Break();
      break;
    }
    taken += progress.bytes;
  }
  if (taken > 0) wrote_at_ = now();
  return taken;
}

// Methods hear that their bytes are gone, and may send more.
void HttpConnection::TellFlushed() {
  std::vector<int32_t> drained;
  drained.swap(drained_);
  for (const int32_t id : drained) {
    if (Stream* const stream = StreamOf(id)) stream->OnFlushed();
  }
}

void HttpConnection::Rewatch() {
  uint32_t wanted = socket_->wants() & EPOLLIN;  // Not while TLS reads nothing before it could write.
  if (full_ || more_) wanted |= EPOLLOUT;
  if (!leftover_.empty() || !shaken_) wanted |= socket_->wants();
  // A peer that makes us owe it frames and reads none is not read from, nor is one that was sent away.
  if (!leftover_.empty() &&
      (calmed_ || nghttp2_session_get_outbound_queue_size(session_) > gateway_->limits.frames_waiting)) {
    wanted = EPOLLOUT;
  }
  if (wanted == watched_) return;
  gateway_->loop.Rewatch(socket_->fd(), wanted, this);
  watched_ = wanted;
}

}  // namespace prefixdb::front
