// A row in a memtable, and the order of rows.
//
// Its bytes are what RocksDB's MemTable::Add writes, a format that rocksdb/memtablerep.h calls frozen: the varint32
// length of the internal key, the internal key (the user key, then 8 bytes of sequence and type), and the value.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "big_endian.h"

namespace prefixdb {

// In order of user keys, bytewise, and the newest first. Refers to bytes that live longer.
class InternalKey {
 public:
  // REQUIRES: at least 8 bytes.
  explicit InternalKey(std::string_view bytes) noexcept : user_key_(bytes.substr(0, bytes.size() - sizeof tag_)) {
    std::memcpy(&tag_, bytes.data() + user_key_.size(), sizeof tag_);
  }
  static InternalKey OfEntry(const char* entry) noexcept {
    uint32_t size = static_cast<uint8_t>(*entry++);
    if (size >= 0x80) [[unlikely]] {
      size &= 0x7f;
      for (int shift = 7;; shift += 7) {
        const uint32_t byte = static_cast<uint8_t>(*entry++);
        size |= (byte & 0x7f) << shift;
        if (byte < 0x80) break;
      }
    }
    return InternalKey({entry, size});
  }

  std::string_view user_key() const noexcept { return user_key_; }

  // Below, at or above 0 as this comes before, at or after the other.
  int Compare(const InternalKey& other) const noexcept {
    if (const int order = user_key_.compare(other.user_key_); order != 0) return order;
    if (tag_ == other.tag_) return 0;
    return tag_ > other.tag_ ? -1 : 1;
  }

  // The 8 bytes of the user key after its first `skip`, as a number; behind its end there are zeros. Of two user keys
  // that have the same first `skip` bytes, the one with the lower head comes first; equal heads say nothing.
  uint64_t Head(size_t skip) const noexcept {
    if (skip + sizeof(uint64_t) <= user_key_.size()) return ReadU64(user_key_.data() + skip);
    char bytes[sizeof(uint64_t)] = {};
    if (skip < user_key_.size()) std::memcpy(bytes, user_key_.data() + skip, user_key_.size() - skip);
    return ReadU64(bytes);
  }

 private:
  std::string_view user_key_;
  uint64_t tag_;  // Sequence in the upper 7 bytes, type in the lowest: little-endian in memory.
};

// The bytes follow it in memory. Never changes but for the link, and lives as long as its memtable.
struct Entry {
  std::atomic<Entry*> next{nullptr};

  const char* bytes() const noexcept { return reinterpret_cast<const char*>(this + 1); }
  char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
  InternalKey key() const noexcept { return InternalKey::OfEntry(bytes()); }
};

}  // namespace prefixdb
