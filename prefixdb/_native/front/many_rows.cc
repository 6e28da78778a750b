#include "front/many_rows.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "key_codec.h"

namespace prefixdb::front {
namespace {

struct Ascending {
  bool operator()(const rocksdb::Slice& left, const rocksdb::Slice& right) const { return left.compare(right) < 0; }
};

void TakeAlive(ManyRows* rows) {
  rows->alive.reserve(rows->found.values.size());
  for (const auto& value : rows->found.values) {
    auto& row = rows->alive.emplace_back();
    if (!value || value->ExpiredAt(rows->now_ms)) continue;
    row = RowFields{value->payload, value->version, TtlMs(value->expires_at_ms, rows->now_ms)};
  }
}

}  // namespace

void ManyKeys::Reserve(size_t count, size_t user_bytes) {
  bytes_.reserve(count * kDataHeadBytes + user_bytes);  // Never moves again: the slices point into it.
  all_.reserve(count);
}

void ManyKeys::Add(uint64_t namespace_id, uint32_t database, std::string_view user_key) {
  char head[kDataHeadBytes];
  WriteDataHead(namespace_id, static_cast<uint16_t>(database), head);
  const size_t begin = bytes_.size();
  bytes_.append(head, sizeof head).append(user_key);
  all_.emplace_back(bytes_.data() + begin, bytes_.size() - begin);
}

void ManyKeys::Sort() {
  if (places_.size() == all_.size()) return;
  std::vector<uint32_t> order(all_.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [this](uint32_t left, uint32_t right) { return Ascending()(all_[left], all_[right]); });
  places_.resize(all_.size());
  distinct_.reserve(all_.size());
  for (const uint32_t index : order) {
    if (distinct_.empty() || distinct_.back() != all_[index]) distinct_.push_back(all_[index]);
    places_[index] = static_cast<uint32_t>(distinct_.size() - 1);
  }
}

bool ManyKeys::HasMoreThan(size_t count) const {
  if (all_.size() <= count) return false;
  std::set<rocksdb::Slice, Ascending> seen;
  return std::any_of(all_.begin(), all_.end(), [&](const rocksdb::Slice& key) {
    seen.insert(key);
    return seen.size() > count;
  });
}

Outcome ManyKeys::Read(Store& store, Clock& clock, ManyRows* rows) const {
  rows->now_ms = clock.now_ms();
  Outcome outcome = store.GetMany(distinct_, &rows->found, /*ascending=*/true);
  if (outcome.ok()) TakeAlive(rows);
  return outcome;
}

Outcome ManyKeys::ReadFromMemory(Store& store, Clock& clock, ManyRows* rows, bool* decided) const {
  rows->now_ms = clock.now_ms();
  Outcome outcome = store.GetManyFromMemory(distinct_, &rows->found, decided);
  if (outcome.ok() && *decided) TakeAlive(rows);
  return outcome;
}

}  // namespace prefixdb::front
