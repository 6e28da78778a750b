// Keys and ranges of a request: checked, and made into the row keys of the caller's own namespace. The twin of
// prefixdb/keycodec.py and of the range functions in prefixdb/service/mutations.py, checks in the same order.
//
// A row key begins with the session's namespace, never with anything the caller sent: that is what keeps tenants apart.
//
// Functions are thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "front/failure.h"
#include "front/messages.h"
#include "front/sessions.h"
#include "key_codec.h"

namespace prefixdb::front {

// The key of one row. On the stack: a Get touches no heap on its way to the store.
class RowKey {
 public:
  // REQUIRES: CheckKey had nothing to say.
  RowKey(uint64_t namespace_id, uint32_t database, std::string_view user_key) noexcept;
  RowKey(const RowKey&) = delete;
  RowKey& operator=(const RowKey&) = delete;

  std::string_view view() const noexcept { return {bytes_.data(), size_}; }

 private:
  size_t size_;
  std::array<char, kDataHeadBytes + kUserKeyBytesMax> bytes_;
};

// KEY_EMPTY, KEY_TOO_LARGE or BAD_FIELD (database), or nothing.
std::optional<Failure> CheckKey(std::string_view user_key, uint32_t database);
// NOT_PERMITTED, or nothing. REQUIRES: CheckKey had nothing to say.
std::optional<Failure> CheckRight(const Session& session, Right right, uint32_t database, std::string_view user_key);

// Half-open, of row keys.
struct Span {
  std::string begin;
  std::string end;
};

// BAD_RANGE, KEY_TOO_LARGE or BAD_FIELD (database), or nothing and the span of the range in the session's namespace.
std::optional<Failure> MakeSpan(const Session& session, uint32_t database, const KeyRange& range, Span* span);
// NOT_PERMITTED unless one rule covers all of it. REQUIRES: MakeSpan made it.
std::optional<Failure> CheckRange(const Session& session, Right right, uint32_t database, const Span& span);
// Both, for a range that is read.
std::optional<Failure> MakeReadable(const Session& session, uint32_t database, const KeyRange& range, Span* span);
// Leaves of `span` what a walk still has to do after the user key `after`; all of it when that is empty. KEY_TOO_LARGE.
std::optional<Failure> Resume(std::string_view after, bool reverse, Span* span);

// What a request is answered whose bytes are none of its type.
Failure NotAMessage();

}  // namespace prefixdb::front
