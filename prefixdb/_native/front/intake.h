// What has come of a call's request and is still here, and the room that its sender is given for it.
//
//   bytes arrive ──► held in the loop's account: the connection may send as many more at once
//                └─► no room in the account: they count against the connection's window until they leave
//
// The stream's own window is opened again when its bytes have left, or while a message comes that is worth it (Widen).
#pragma once

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "front/grpc_codec.h"

namespace prefixdb::front {

// The room for bytes that wait: one account for a loop, one for each connection within it.
//
// When it is used up by messages none of which is whole, all would wait for each other; so one of them, the first that
// found no room, gets what it needs all the same.
//
// A share is what one namespace holds of the loop's account: no more than is left for others. So whoever comes first
// gets a half at most, two get a third each, and there is always something for the next.
class Account {
 public:
  Account(size_t most, Account* whole) : most_(most), whole_(whole) {}
  bool Hold(size_t bytes, const void* holder, const size_t* share = nullptr) noexcept {
    if (!HasRoom(bytes, share) && !Favours(holder)) return false;
    Add(bytes);
    return true;
  }
  // The same, for one who can do without.
  bool HoldIfRoom(size_t bytes, const size_t* share = nullptr) noexcept {
    if (!HasRoom(bytes, share)) return false;
    Add(bytes);
    return true;
  }
  void Release(size_t bytes) noexcept {
    for (Account* each = this; each != nullptr; each = each->whole_) each->held_ -= bytes;
  }
  // The holder's message is whole, given up or passed on.
  void Finish(const void* holder) noexcept {
    Account* const root = Root();
    if (root->favoured_ == holder) root->favoured_ = nullptr;
  }
  size_t held() const noexcept { return held_; }

 private:
  bool HasRoom(size_t bytes, const size_t* share) const noexcept {
    if (held_ + bytes > most_) return false;
    if (whole_ != nullptr) return whole_->HasRoom(bytes, share);
    return share == nullptr || *share + bytes <= most_ - held_;
  }
  void Add(size_t bytes) noexcept {
    for (Account* each = this; each != nullptr; each = each->whole_) each->held_ += bytes;
  }
  Account* Root() noexcept { return whole_ == nullptr ? this : whole_->Root(); }
  bool Favours(const void* holder) noexcept {
    const void*& favoured = Root()->favoured_;
    if (favoured == nullptr) favoured = holder;
    return favoured == holder;
  }

  const size_t most_;
  size_t held_ = 0;
  Account* const whole_;
  const void* favoured_ = nullptr;  // Of the root.
};

// The messages of a call that is passed on, as they come: how much of the last one there is.
class LastMessage {
 public:
  void Add(std::string_view bytes) noexcept {
    while (!bytes.empty()) {
      if (is_whole()) head_ = size_ = length_ = 0;
      size_t taken = 1;
      if (head_ < kMessageHeadBytes) {
        if (head_ > 0) length_ = length_ << 8 | static_cast<uint8_t>(bytes[0]);
        if (++head_ == kMessageHeadBytes) left_ = length_;
      } else {
        taken = std::min(bytes.size(), left_);
        left_ -= taken;
      }
      size_ += taken;
      bytes.remove_prefix(taken);
    }
  }
  // Its head included, also when it is whole.
  size_t size() const noexcept { return size_; }
  bool is_whole() const noexcept { return head_ == kMessageHeadBytes && left_ == 0; }

 private:
  size_t head_ = 0;  // Bytes of the head that have come.
  size_t length_ = 0;
  size_t left_ = 0;
  size_t size_ = 0;
};

// Belongs to its call.
class Intake {
 public:
  Intake(nghttp2_session* session, Account* account, int32_t stream_id)
      : session_(session), account_(account), id_(stream_id) {}

  void Arrive(size_t bytes) noexcept {
    if (account_->Hold(bytes, this, share_.get())) {
      Add(bytes);
      nghttp2_session_consume_connection(session_, bytes);
    } else {
      owed_connection_ += bytes;
    }
    owed_stream_ += bytes;
  }
  // So many of the bytes are not here any more.
  void Leave(size_t bytes) noexcept {
    const size_t owed = bytes < owed_connection_ ? bytes : owed_connection_;
    if (owed > 0) nghttp2_session_consume_connection(session_, owed);
    owed_connection_ -= owed;
    const size_t released = bytes - owed < held_ ? bytes - owed : held_;
    account_->Release(released);
    held_ -= released;
    if (share_) *share_ -= released;
    if (held_ + owed_connection_ == 0) Finish();  // Of a stream that is passed on the last message may never be whole.
  }
  void LeaveAll() noexcept { LeaveAllBut(0); }
  void LeaveAllBut(size_t bytes) noexcept {
    const size_t here = held_ + owed_connection_;
    if (here > bytes) Leave(here - bytes);
  }
  // What is here has become so much more: it was compressed. False: there is no room.
  [[nodiscard]] bool Grow(size_t bytes) noexcept {
    if (!account_->HoldIfRoom(bytes, share_.get())) return false;
    Add(bytes);
    return true;
  }
  // What is here, and comes, is part of a share. Once; small messages never are.
  void Join(std::shared_ptr<size_t> share) noexcept {
    share_ = std::move(share);
    *share_ += held_;
  }
  bool has_share() const noexcept { return share_ != nullptr; }
  // A message is whole; what it holds leaves when it was answered.
  void Finish() noexcept { account_->Finish(this); }
  // The client may send as much again as it has sent, or `bytes` of it.
  void CreditStream() noexcept { CreditStream(owed_stream_); }
  void CreditStream(size_t bytes) noexcept {
    if (bytes > owed_stream_) bytes = owed_stream_;
    if (bytes > 0) nghttp2_session_consume_stream(session_, id_, bytes);
    owed_stream_ -= bytes;
  }
  // As much as is not here any more.
  void CreditStreamAllBut(size_t bytes) noexcept {
    if (owed_stream_ > bytes) CreditStream(owed_stream_ - bytes);
  }
  // Whether all that is here has room in the account; tries to find some for what has not.
  bool HasRoom() noexcept {
    if (owed_connection_ == 0) return true;
    if (!account_->Hold(owed_connection_, this, share_.get())) return false;
    Add(owed_connection_);
    nghttp2_session_consume_connection(session_, owed_connection_);
    owed_connection_ = 0;
    return true;
  }
  void Widen(int32_t window) noexcept {
    if (window <= window_) return;
    window_ = window;
    nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, id_, window);
  }

 private:
  void Add(size_t bytes) noexcept {
    held_ += bytes;
    if (share_) *share_ += bytes;
  }

  nghttp2_session* const session_;
  Account* const account_;
  const int32_t id_;
  std::shared_ptr<size_t> share_;
  size_t held_ = 0;
  size_t owed_connection_ = 0;
  size_t owed_stream_ = 0;
  int32_t window_ = 0;
};

}  // namespace prefixdb::front
