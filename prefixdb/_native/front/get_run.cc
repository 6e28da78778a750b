#include "front/get_run.h"

#include <algorithm>
#include <variant>

#include "front/rows.h"

namespace prefixdb::front {
namespace {

// What an Operation with a Get in it begins with. From a sender who puts something else before it the Get is no part of
// a run; nothing but a run's end is parsed in vain.
constexpr char kGetTag = static_cast<char>(BytesTag(1));
static_assert(BytesTag(1) < 0x80);

constexpr size_t kResultBytes = ResponseBudget::kResultBytes;

}  // namespace

std::vector<GetRequest> GetRun::Find(std::span<const std::string_view> operations, size_t most) {
  std::vector<GetRequest> gets;
  gets.reserve(std::min(operations.size(), most));
  for (const std::string_view bytes : operations) {
    Operation operation;
    if (gets.size() == most || !bytes.starts_with(kGetTag) || !Parse(bytes, &operation)) break;
    const auto* const get = std::get_if<GetRequest>(&operation);
    if (get == nullptr) break;
    gets.push_back(*get);
  }
  return gets;
}

GetRun::GetRun(const Session& session, std::span<const GetRequest> gets) {
  size_t key_bytes = 0;
  for (const GetRequest& get : gets) key_bytes += get.key.size();
  places_.reserve(gets.size());
  keys_.Reserve(gets.size(), key_bytes);
  for (const GetRequest& get : gets) {
    auto failure = CheckKey(get.key, get.database);
    if (!failure) failure = CheckRight(session, Right::kRead, get.database, get.key);
    if (failure) {
      places_.push_back({true, static_cast<uint32_t>(errors_.size())});
      errors_.push_back(EncodeError(*failure));
    } else {
      places_.push_back({false, static_cast<uint32_t>(keys_.all().size())});
      keys_.Add(session.namespace_id, get.database, get.key);
    }
  }
}

GetRun::Answer GetRun::Read(Store& store, Clock& clock, ResponseBudget budget) {
  keys_.Sort();
  ManyRows rows;
  Answer answer;
  answer.outcome = keys_.Read(store, clock, &rows);
  if (!answer.outcome.ok()) return answer;
  uint64_t bytes = places_.size() * kResultBytes;
  for (const uint32_t place : keys_.places()) bytes += rows.at(place) == nullptr ? 0 : rows.at(place)->value.size();
  answer.results.reserve(std::min(bytes, budget.left()));
  for (const Place& place : places_) {
    budget.BeginResult();
    if (place.refused) {
      AppendResult(ResultField::kError, errors_[place.index], &answer.results);
      continue;
    }
    const RowFields* const row = rows.at(keys_.places()[place.index]);
    if (const auto failure = budget.Spend(row == nullptr ? 0 : row->value.size())) {
      AppendResult(ResultField::kError, EncodeError(*failure), &answer.results);
    } else {
      AppendGetResult(row, &answer.results);
    }
  }
  answer.budget = budget;
  return answer;
}

}  // namespace prefixdb::front
