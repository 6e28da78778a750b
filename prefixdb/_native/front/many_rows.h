// Rows that are read together, from one view: their keys, in order and equal ones once, and what was found.
//
// Such a read costs about half of reading the rows one by one: files, filters and indexes are looked up for all keys at
// once. Equal keys are read once, and put in order by bisection, not by hashing: nobody can choose keys that make it
// slow.
#pragma once

#include <rocksdb/slice.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "front/call.h"
#include "front/messages.h"
#include "store.h"

namespace prefixdb::front {

// What was found, expired or not; as ManyFound it has to be let go of soon.
struct ManyRows {
  ManyFound found;
  uint64_t now_ms = 0;
  std::vector<std::optional<RowFields>> alive;  // For each distinct key; borrowed from `found`.

  // Null when there is no such row, or none any more.
  const RowFields* at(size_t place) const noexcept { return alive[place] ? &*alive[place] : nullptr; }
};

// Keys of data rows. Owns them. One thread at a time, any.
class ManyKeys {
 public:
  ManyKeys() = default;
  ManyKeys(const ManyKeys&) = delete;
  ManyKeys& operator=(const ManyKeys&) = delete;

  // Not more will be added: `user_bytes` is the size of all user keys.
  void Reserve(size_t count, size_t user_bytes);
  // REQUIRES: CheckKey had nothing to say; Sort was not called.
  void Add(uint64_t namespace_id, uint32_t database, std::string_view user_key);
  // Idempotent.
  void Sort();
  // Whether there are more than `count` distinct ones. Takes less than sorting when there are many more.
  bool HasMoreThan(size_t count) const;

  // In the order they were added in.
  std::span<const rocksdb::Slice> all() const noexcept { return all_; }
  // REQUIRES: Sort was called.
  std::span<const rocksdb::Slice> distinct() const noexcept { return distinct_; }
  // For each of `all` its place in `distinct`.
  std::span<const uint32_t> places() const noexcept { return places_; }

  // Reads the distinct ones. FromMemory: see Store::GetManyFromMemory.
  Outcome Read(Store& store, Clock& clock, ManyRows* rows) const;
  Outcome ReadFromMemory(Store& store, Clock& clock, ManyRows* rows, bool* decided) const;

 private:
  std::string bytes_;
  std::vector<rocksdb::Slice> all_;  // Of `bytes_`.
  std::vector<rocksdb::Slice> distinct_;
  std::vector<uint32_t> places_;
};

}  // namespace prefixdb::front
