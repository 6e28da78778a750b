#include "front/rows.h"

#include <algorithm>
#include <cstring>

namespace prefixdb::front {
namespace {

static_assert(kUserKeyBytesMax == kKeyBytesMax);

Failure KeyTooLarge(size_t size) {
  const std::string counted = std::to_string(size);
  const std::string most = std::to_string(kKeyBytesMax);
  return Fail(Reason::kKeyTooLarge, "The key has " + counted + " bytes; the limit is " + most + '.',
              {{"size", counted}, {"limit", most}});
}

std::optional<Failure> CheckDatabase(uint32_t database) {
  if (database <= kDatabaseMax) return std::nullopt;
  return BadField("database", "must be between 0 and " + std::to_string(kDatabaseMax) + '.');
}

// The user key of a span's bound. A span that reaches the end of its database ends at the bare head of the next one, or
// of the next family, which is not longer than a head: nothing is left of it.
std::string_view UserBound(std::string_view bound) noexcept {
  return bound.size() > kDataHeadBytes ? bound.substr(kDataHeadBytes) : std::string_view();
}

}  // namespace

RowKey::RowKey(uint64_t namespace_id, uint32_t database, std::string_view user_key) noexcept
    : size_(kDataHeadBytes + user_key.size()) {
  WriteDataHead(namespace_id, static_cast<uint16_t>(database), bytes_.data());
  std::memcpy(bytes_.data() + kDataHeadBytes, user_key.data(), user_key.size());
}

std::optional<Failure> CheckKey(std::string_view user_key, uint32_t database) {
  if (user_key.empty()) return Fail(Reason::kKeyEmpty);
  if (user_key.size() > kKeyBytesMax) return KeyTooLarge(user_key.size());
  return CheckDatabase(database);
}

std::optional<Failure> CheckRight(const Session& session, Right right, uint32_t database, std::string_view user_key) {
  if (session.rules.Permits(right, static_cast<uint16_t>(database), user_key)) return std::nullopt;
  return Fail(Reason::kNotPermitted);
}

std::optional<Failure> MakeSpan(const Session& session, uint32_t database, const KeyRange& range, Span* span) {
  const bool by_prefix = !range.prefix.empty();
  if (by_prefix) {
    if (!range.start.empty() || !range.end.empty()) {
      return Fail(Reason::kBadRange, "A range has either a prefix or bounds, not both.");
    }
    if (range.prefix.size() > kKeyBytesMax) return KeyTooLarge(range.prefix.size());
  } else {
    // One byte more than a key may have: key + '\0' is the usual way to resume after the longest key.
    for (const std::string_view bound : {range.start, range.end}) {
      if (bound.size() > kKeyBytesMax + 1) return KeyTooLarge(bound.size());
    }
  }
  if (auto failure = CheckDatabase(database)) return failure;
  const auto in = static_cast<uint16_t>(database);
  std::optional<KeySpan> made = by_prefix ? PrefixSpan(session.namespace_id, in, range.prefix)
                                          : RangeSpan(session.namespace_id, in, range.start, range.end);
  if (!made) return Fail(Reason::kBadRange);  // Inverted; everything else was looked at.
  *span = {std::move(made->first), std::move(made->second)};
  return std::nullopt;
}

std::optional<Failure> CheckRange(const Session& session, Right right, uint32_t database, const Span& span) {
  const auto in = static_cast<uint16_t>(database);
  if (session.rules.PermitsRange(right, in, UserBound(span.begin), UserBound(span.end))) return std::nullopt;
  return Fail(Reason::kNotPermitted);
}

std::optional<Failure> MakeReadable(const Session& session, uint32_t database, const KeyRange& range, Span* span) {
  auto failure = MakeSpan(session, database, range, span);
  return failure ? failure : CheckRange(session, Right::kRead, database, *span);
}

std::optional<Failure> Resume(std::string_view after, bool reverse, Span* span) {
  if (after.empty()) return std::nullopt;
  if (after.size() > kKeyBytesMax) return KeyTooLarge(after.size());
  std::string here = span->begin.substr(0, kDataHeadBytes);
  here.append(after);
  if (reverse) {
    span->end = std::min(span->end, std::max(span->begin, here));
  } else {
    here.push_back('\0');
    span->begin = std::max(span->begin, std::min(span->end, here));
  }
  return std::nullopt;
}

Failure NotAMessage() { return Fail(Reason::kBadField, "The request is not a message of its type."); }

}  // namespace prefixdb::front
