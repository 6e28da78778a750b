// Rules as they are asked: the twin of prefixdb/catalog/rules.py, for the front. tests/data/rules.json pins both, and a
// server compares them before it serves.
//
// Of the prefixes of one database those that another one contains are left out, so at most one of the rest can be a
// prefix of a key, and it is the greatest that is not above it: asked by bisection.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace prefixdb::front {

struct Rule {
  std::optional<uint16_t> database;  // Nothing: every database.
  std::string prefix;
  bool read = false;
  bool write = false;
};

enum class Right : uint8_t { kRead, kWrite };

// Thread-safe as any value. Whatever no rule permits is denied.
class RuleSet {
 public:
  RuleSet() = default;
  explicit RuleSet(const std::vector<Rule>& rules);

  bool Any(Right right) const noexcept { return of(right).any; }
  bool Permits(Right right, uint16_t database, std::string_view key) const noexcept;
  // One rule alone covers all of start <= key < end; an empty end is the end of the database.
  bool PermitsRange(Right right, uint16_t database, std::string_view start, std::string_view end) const;
  size_t bytes() const noexcept { return bytes_; }  // Memory, about.
  bool operator==(const RuleSet&) const = default;

 private:
  using Prefixes = std::vector<std::string>;
  struct Side {
    bool any = false;
    bool all = false;  // Every key of every database: the usual case, answered at once.
    Prefixes everywhere;
    std::map<uint16_t, Prefixes> databases;
    bool operator==(const Side&) const = default;
  };
  const Side& of(Right right) const noexcept { return right == Right::kRead ? read_ : write_; }

  Side read_;
  Side write_;
  size_t bytes_ = 0;
};

}  // namespace prefixdb::front
