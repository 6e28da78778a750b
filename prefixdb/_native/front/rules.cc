#include "front/rules.h"

#include <algorithm>

namespace prefixdb::front {
namespace {

using Prefixes = std::vector<std::string>;

// What a prefix takes beside its bytes, about.
constexpr size_t kPrefixBytes = 48;
constexpr size_t kDatabaseBytes = 96;

// Sorts, and leaves out whatever another prefix contains: of two with a common beginning the shorter comes first.
void Minimize(Prefixes* prefixes) {
  std::sort(prefixes->begin(), prefixes->end());
  Prefixes kept;
  for (std::string& prefix : *prefixes) {
    if (kept.empty() || !prefix.starts_with(kept.back())) kept.push_back(std::move(prefix));
  }
  kept.shrink_to_fit();
  prefixes->swap(kept);
}

// The greatest prefix that is not above `key`: the only one that can be a prefix of it.
const std::string* Nearest(const Prefixes& prefixes, std::string_view key) noexcept {
  const auto above = std::upper_bound(prefixes.begin(), prefixes.end(), key,
                                      [](std::string_view left, std::string_view right) { return left < right; });
  return above == prefixes.begin() ? nullptr : &*(above - 1);
}

bool Contains(const Prefixes& prefixes, std::string_view key) noexcept {
  const std::string* const prefix = Nearest(prefixes, key);
  return prefix != nullptr && key.starts_with(*prefix);
}

// The smallest key above all keys with `prefix`; empty when there is none.
std::string Successor(std::string_view prefix) {
  while (!prefix.empty() && prefix.back() == '\xff') prefix.remove_suffix(1);
  std::string stop(prefix);
  if (!stop.empty()) stop.back() = static_cast<char>(static_cast<unsigned char>(stop.back()) + 1);
  return stop;
}

// Decided by the bounds alone: the keys with prefix p are exactly p <= key < Successor(p).
bool ContainsRange(const Prefixes& prefixes, std::string_view start, std::string_view end) {
  const std::string* const prefix = Nearest(prefixes, start);
  if (prefix == nullptr) return false;
  const std::string stop = Successor(*prefix);
  return stop.empty() || (!end.empty() && end <= stop);
}

size_t BytesOf(const Prefixes& prefixes) {
  size_t bytes = 0;
  for (const std::string& prefix : prefixes) bytes += kPrefixBytes + prefix.size();
  return bytes;
}

}  // namespace

RuleSet::RuleSet(const std::vector<Rule>& rules) {
  const auto add = [](Side* side, const Rule& rule) {
    side->any = true;
    (rule.database ? side->databases[*rule.database] : side->everywhere).push_back(rule.prefix);
  };
  for (const Rule& rule : rules) {
    if (rule.read) add(&read_, rule);
    if (rule.write) add(&write_, rule);
  }
  for (Side* side : {&read_, &write_}) {
    Minimize(&side->everywhere);
    side->all = !side->everywhere.empty() && side->everywhere.front().empty();
    bytes_ += BytesOf(side->everywhere);
    for (auto& [database, prefixes] : side->databases) {
      Minimize(&prefixes);
      bytes_ += kDatabaseBytes + BytesOf(prefixes);
    }
  }
}

bool RuleSet::Permits(Right right, uint16_t database, std::string_view key) const noexcept {
  const Side& side = of(right);
  if (side.all || Contains(side.everywhere, key)) return true;
  const auto found = side.databases.find(database);
  return found != side.databases.end() && Contains(found->second, key);
}

bool RuleSet::PermitsRange(Right right, uint16_t database, std::string_view start, std::string_view end) const {
  const Side& side = of(right);
  if (side.all || ContainsRange(side.everywhere, start, end)) return true;
  const auto found = side.databases.find(database);
  return found != side.databases.end() && ContainsRange(found->second, start, end);
}

}  // namespace prefixdb::front
