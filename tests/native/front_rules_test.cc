// Goal: rules permit in the front exactly what they permit in Python: the keys and ranges that one rule alone covers.
//
// Method: the frozen cases of tests/data/rules.json, which Python answers in its own test; and random rules over few
// bytes against the definition, a loop over all rules and, for ranges, over every key of a small universe.
#include "front/rules.h"
#include "json.h"
#include "support.h"

namespace prefixdb::test {
namespace {

using front::Right;
using front::Rule;
using front::RuleSet;

bool Has(const Rule& rule, Right right, uint16_t database) {
  return (right == Right::kRead ? rule.read : rule.write) && (!rule.database || *rule.database == database);
}

// The definition for a key.
bool Covers(const std::vector<Rule>& rules, Right right, uint16_t database, const std::string& key) {
  for (const Rule& rule : rules) {
    if (Has(rule, right, database) && key.compare(0, rule.prefix.size(), rule.prefix) == 0) return true;
  }
  return false;
}

// Every key of up to three bytes around those that prefixes are made of, and longer ones behind them.
std::vector<std::string> Universe() {
  std::vector<std::string> keys = {""};
  for (size_t begin = 0, length = 0; length < 4; ++length) {
    const size_t end = keys.size();
    for (; begin < end; ++begin) {
      for (const char byte : {'\0', '\1', 'a', 'b', '\x7f', '\x80', '\xff'}) keys.push_back(keys[begin] + byte);
    }
  }
  return keys;
}

// The definition for a range: one rule covers all of its keys. Only where the universe has one.
std::optional<bool> CoversRange(const std::vector<Rule>& rules, Right right, uint16_t database,
                                const std::vector<std::string>& inside) {
  if (inside.empty()) return std::nullopt;
  for (const Rule& rule : rules) {
    if (Has(rule, right, database) &&
        std::all_of(inside.begin(), inside.end(), [&](const std::string& key) { return key.starts_with(rule.prefix); }))
      return true;
  }
  return false;
}

std::string Few(Seeded* random, size_t longest) {
  std::string bytes(random->Below(longest + 1), '\0');
  for (char& each : bytes) each = "\0a\x7f\xff"[random->Below(4)];
  return bytes;
}

std::vector<Rule> SomeRules(Seeded* random, size_t most) {
  std::vector<Rule> rules(random->Below(most + 1));
  for (Rule& rule : rules) {
    if (random->Below(3) != 0) rule.database = static_cast<uint16_t>(random->Below(2) * 65535);
    rule.prefix = Few(random, 3);
    rule.read = random->Below(2) == 0;
    rule.write = random->Below(2) == 0;
  }
  return rules;
}

}  // namespace

TEST_CASE("the frozen cases are answered as Python answers them") {
  size_t asked = 0;
  const Json vectors = Json::OfData("rules.json");
  for (const Json& set : vectors["sets"].array()) {
    std::vector<Rule> rules;
    for (const Json& rule : set["rules"].array()) {
      rules.push_back({{}, rule["prefix"].bytes(), rule["read"].boolean(), rule["write"].boolean()});
      if (!rule["database"].is_null()) rules.back().database = static_cast<uint16_t>(rule["database"].number());
    }
    const RuleSet found(rules);
    for (const Json& each : set["cases"].array()) {
      const Right right = each["right"].text() == "read" ? Right::kRead : Right::kWrite;
      const auto database = static_cast<uint16_t>(each["database"].number());
      const bool permitted = each.has("key")
                                 ? found.Permits(right, database, each["key"].bytes())
                                 : found.PermitsRange(right, database, each["start"].bytes(), each["end"].bytes());
      CHECK(permitted == each["permitted"].boolean());
      ++asked;
    }
  }
  CHECK(asked > 1000);
}

TEST_CASE("keys are permitted as some single rule permits them") {
  Seeded random;
  const std::vector<std::string> universe = Universe();
  for (int round = 0; round < 300; ++round) {
    const std::vector<Rule> rules = SomeRules(&random, 12);
    const RuleSet found(rules);
    for (const Right right : {Right::kRead, Right::kWrite}) {
      const bool any = std::any_of(rules.begin(), rules.end(),
                                   [&](const Rule& rule) { return right == Right::kRead ? rule.read : rule.write; });
      CHECK(found.Any(right) == any);
      for (const uint16_t database : {uint16_t{0}, uint16_t{1}, uint16_t{65535}}) {
        for (const std::string& key : universe) {
          if (found.Permits(right, database, key) != Covers(rules, right, database, key)) FAIL("round " << round);
        }
      }
    }
  }
}

TEST_CASE("a range is permitted when one rule covers all of it") {
  Seeded random;
  const std::vector<std::string> universe = Universe();
  size_t permitted = 0;
  for (int round = 0; round < 3'000; ++round) {
    const std::vector<Rule> rules = SomeRules(&random, 6);
    const RuleSet found(rules);
    const Right right = random.Below(2) == 0 ? Right::kRead : Right::kWrite;
    const auto database = static_cast<uint16_t>(random.Below(2) * 65535);
    const std::string start = Few(&random, 4);
    const std::string end = Few(&random, 4);
    std::vector<std::string> inside;
    for (const std::string& key : universe) {
      if (start <= key && (end.empty() || key < end)) inside.push_back(key);
    }
    const auto expected = CoversRange(rules, right, database, inside);
    const bool answer = found.PermitsRange(right, database, start, end);
    if (expected && answer != *expected) FAIL("round " << round);
    permitted += answer ? 1 : 0;
  }
  CHECK(permitted > 100);
}

TEST_CASE("rules are weighed by what they hold, and nothing permits nothing") {
  const RuleSet nothing;
  CHECK_FALSE(nothing.Any(Right::kRead));
  CHECK_FALSE(nothing.Permits(Right::kRead, 0, "a"));
  CHECK_FALSE(nothing.PermitsRange(Right::kRead, 0, "", ""));
  CHECK(nothing.bytes() == 0);
  const RuleSet large({{0, std::string(10'000, 'a'), true, true}});
  CHECK(large.bytes() > 20'000);
  CHECK(RuleSet({{0, "aa", true, false}, {0, "a", true, false}}).bytes() == RuleSet({{0, "a", true, false}}).bytes());
}

}  // namespace prefixdb::test
