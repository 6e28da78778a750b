#include "front/responder.h"

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "front/grpc_codec.h"
#include "front/http_connection.h"
#include "front/stream.h"

namespace prefixdb::front {
namespace {

constexpr uint8_t kStatic = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;

nghttp2_nv Entry(std::string_view name, std::string_view value, uint8_t flags) noexcept {
  // nghttp2 does not write to them.
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), flags};
}

// A failure's own words: copied, and kept out of the table that both sides share for compression.
constexpr uint8_t kOwn = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_INDEX;

constexpr std::array<std::string_view, 17> kCodes = {"0", "1",  "2",  "3",  "4",  "5",  "6",  "7", "8",
                                                     "9", "10", "11", "12", "13", "14", "15", "16"};

void AppendStatus(const Status* status, std::vector<nghttp2_nv>* entries) {
  const uint8_t code = status == nullptr ? 0 : status->code;
  entries->push_back(Entry("grpc-status", kCodes[code < kCodes.size() ? code : 2], kStatic));
  if (status == nullptr) return;
  if (!status->message.empty()) entries->push_back(Entry("grpc-message", status->message, kOwn));
  if (!status->details.empty()) entries->push_back(Entry("grpc-status-details-bin", status->details, kOwn));
}

std::vector<nghttp2_nv> EntriesOf(const Headers& headers) {
  std::vector<nghttp2_nv> entries;
  entries.reserve(headers.size());
  for (const auto& [name, value] : headers) entries.push_back(Entry(name, value, NGHTTP2_NV_FLAG_NONE));
  return entries;
}

const std::array<nghttp2_nv, 3> kHeaders = {Entry(":status", "200", kStatic),
                                            Entry("content-type", "application/grpc", kStatic),
                                            Entry("grpc-accept-encoding", "identity, deflate, gzip", kStatic)};

ssize_t ReadOffer(nghttp2_session*, int32_t, uint8_t*, size_t most, uint32_t* flags, nghttp2_data_source* source,
                  void*) noexcept {
  try {
    return static_cast<Stream*>(source->ptr)->Offer(most, flags);
  } catch (...) {
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  }
}

}  // namespace

Status StatusOf(const Failure& failure) {
  return {failure.code, PercentEncode(failure.message), Base64(EncodeStatus(failure))};
}

void Responder::Push(std::string message) {
  if (finished_) return;
  if (out_.empty()) Moved();
  out_.PushMessage(std::move(message));
  if (!started_) return Start();
  Resume();
}

void Responder::Finish(Status status) {
  if (finished_) return;
  finished_ = true;
  if (status.code != 0) failure_ = std::make_unique<Status>(std::move(status));
  if (!started_) {
    closed_ = true;
    return TrailersOnly(failure_ ? *failure_ : Status());
  }
  if (out_.empty()) SubmitTrailers();
}

void Responder::Cut(Status status) {
  if (closed_) return;
  out_.Clear();
  finished_ = false;
  trailers_.reset();
  forwarded_ = false;
  Finish(std::move(status));
}

void Responder::PassHeaders(const Headers& headers, bool end_stream) {
  if (started_ || finished_) return;
  forwarded_ = true;
  if (end_stream) {
    started_ = finished_ = closed_ = true;
    const std::vector<nghttp2_nv> entries = EntriesOf(headers);
    return OnSubmitted(nghttp2_submit_response(connection_->session(), id_, entries.data(), entries.size(), nullptr));
  }
  started_ = true;
  const std::vector<nghttp2_nv> entries = EntriesOf(headers);
  nghttp2_data_provider provider{{.ptr = connection_->StreamOf(id_)}, ReadOffer};
  OnSubmitted(nghttp2_submit_response(connection_->session(), id_, entries.data(), entries.size(), &provider));
}

void Responder::PassBytes(std::string_view bytes) {
  if (!started_ || finished_) return;
  if (out_.empty()) Moved();
  out_.PushBytes(bytes);
  Resume();
}

void Responder::PassTrailers(Headers trailers) {
  if (finished_) return;
  finished_ = true;
  trailers_ = std::make_unique<Headers>(std::move(trailers));
  if (out_.empty()) SubmitTrailers();
}

void Responder::Reset(uint32_t http2_error) {
  if (closed_) return;
  out_.Clear();
  finished_ = closed_ = true;
  OnSubmitted(nghttp2_submit_rst_stream(connection_->session(), NGHTTP2_FLAG_NONE, id_, http2_error));
}

ssize_t Responder::Offer(size_t most, uint32_t* flags) {
  if (closed_ || out_.empty()) return Defer();
  const size_t count = std::min(most, out_.bytes());
  *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (finished_ && count == out_.bytes()) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    SubmitTrailers();
  }
  return static_cast<ssize_t>(count);
}

size_t Responder::Take(size_t count, std::string* out) {
  const size_t finished = out_.Pop(count, out);
  if (finished > 0 || finished_) Moved();
  return finished;
}

ssize_t Responder::Defer() noexcept {
  waiting_ = true;
  return NGHTTP2_ERR_DEFERRED;
}

void Responder::DropIfFailed() {
  if (closed_ || trailers_ == nullptr) return;
  for (const auto& [name, value] : *trailers_) {
    if (name != "grpc-status" || value == "0") continue;
    out_.Clear();
    return SubmitTrailers();
  }
}

void Responder::Resume() {
  if (!waiting_) return;
  waiting_ = false;
  OnSubmitted(nghttp2_session_resume_data(connection_->session(), id_));
}

// The headers, with whatever is to follow.
void Responder::Start() {
  started_ = true;
  nghttp2_data_provider provider{{.ptr = connection_->StreamOf(id_)}, ReadOffer};
  OnSubmitted(nghttp2_submit_response(connection_->session(), id_, kHeaders.data(), kHeaders.size(), &provider));
}

void Responder::Moved() { moved_at_ = connection_->now(); }

void Responder::TrailersOnly(const Status& status) {
  started_ = true;
  std::vector<nghttp2_nv> entries(kHeaders.begin(), kHeaders.end());
  AppendStatus(&status, &entries);
  OnSubmitted(nghttp2_submit_response(connection_->session(), id_, entries.data(), entries.size(), nullptr));
}

void Responder::SubmitTrailers() {
  closed_ = true;
  if (trailers_) {
    const std::vector<nghttp2_nv> entries = EntriesOf(*trailers_);
    return OnSubmitted(nghttp2_submit_trailer(connection_->session(), id_, entries.data(), entries.size()));
  }
  if (!failure_) {
    static const nghttp2_nv kOk = Entry("grpc-status", "0", kStatic);
    return OnSubmitted(nghttp2_submit_trailer(connection_->session(), id_, &kOk, 1));
  }
  std::vector<nghttp2_nv> entries;
  AppendStatus(failure_.get(), &entries);
  OnSubmitted(nghttp2_submit_trailer(connection_->session(), id_, entries.data(), entries.size()));
}

// What nghttp2 was given is sent at the end of the pass. It refuses what a stream that is closing has no use for.
void Responder::OnSubmitted(int result) {
  if (nghttp2_is_fatal(result)) connection_->Break();
  connection_->Wake();
}

}  // namespace prefixdb::front
