#include "front/batch.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

#include "front/off_loop.h"
#include "front/rows.h"
#include "read_habit.h"
#include "slices.h"

namespace prefixdb::front {
namespace {

constexpr uint64_t kStepBytesMax = 128 * kMib;  // What one step may bring into memory at worst.
constexpr uint64_t kStepKeysMax = 128;          // Some tenths of a millisecond from memory.
constexpr size_t kFewKeys = 8;                  // A few hundredths; more are cheaper in one read by a worker.
constexpr uint64_t kFoundBytes = 32;            // What one result takes beside its value, at most.

std::string_view UserKey(const rocksdb::Slice& row_key) noexcept { return AsView(row_key).substr(kDataHeadBytes); }

}  // namespace

Failure AnswerTooLarge(uint64_t limit) {
  const std::string most = std::to_string(limit);
  return Fail(Reason::kBatchTooLarge, "The answer would have more than " + most + " bytes; ask for fewer keys at once.",
              {{"limit", most}});
}

size_t Batch::StepKeys(uint64_t value_bytes_max) noexcept {
  return static_cast<size_t>(std::max<uint64_t>(1, std::min(kStepKeysMax, kStepBytesMax / value_bytes_max)));
}

std::optional<Failure> Batch::Check(const Session& session, const BatchGetRequest& request) {
  if (request.keys_sent > kBatchKeysMax) return TooMany("keys", request.keys_sent, kBatchKeysMax);
  for (const std::string_view key : request.keys) {
    if (auto failure = CheckKey(key, request.database)) return failure;
  }
  for (const std::string_view key : request.keys) {
    if (auto failure = CheckRight(session, Right::kRead, request.database, key)) return failure;
  }
  return std::nullopt;
}

Batch::Batch(const Session& session, const BatchGetRequest& request) : database_(request.database) {
  size_t size = 0;
  for (const std::string_view key : request.keys) size += kDataHeadBytes + key.size();
  bytes_.reserve(size);  // Never moves again: the slices point into it.
  keys_.reserve(request.keys.size());
  char head[kDataHeadBytes];
  WriteDataHead(session.namespace_id, static_cast<uint16_t>(database_), head);
  for (const std::string_view key : request.keys) {
    const size_t begin = bytes_.size();
    bytes_.append(head, sizeof head).append(key);
    keys_.emplace_back(bytes_.data() + begin, bytes_.size() - begin);
  }
}

std::optional<Failure> Batch::CheckAgain(const Session& session) const {
  for (const rocksdb::Slice& key : keys_) {
    if (auto failure = CheckRight(session, Right::kRead, database_, UserKey(key))) return failure;
  }
  return std::nullopt;
}

void Batch::Sort() {
  if (keys_.empty() || !places_.empty()) return;
  std::vector<uint32_t> order(keys_.size());
  std::iota(order.begin(), order.end(), 0);
  // By bisection, not by hashing: nobody can choose keys that make it slow.
  std::sort(order.begin(), order.end(),
            [this](uint32_t left, uint32_t right) { return UserKey(keys_[left]) < UserKey(keys_[right]); });
  places_.resize(keys_.size());
  unique_.reserve(keys_.size());
  for (const uint32_t index : order) {
    if (unique_.empty() || unique_.back() != keys_[index]) unique_.push_back(keys_[index]);
    places_[index] = static_cast<uint32_t>(unique_.size() - 1);
  }
}

bool Batch::AnswerFromMemory(Store& store, Clock& clock, uint64_t bytes_max, BatchAnswer* answer) {
  thread_local ReadHabit habit;  // A loop is a thread.
  if (keys_.size() > kFewKeys || !habit.AsksMemory()) return false;
  Sort();
  const uint64_t now_ms = clock.now_ms();
  ManyFound found;
  bool decided = false;
  answer->outcome = store.GetManyFromMemory(unique_, &found, &decided);
  if (!answer->outcome.ok()) return true;
  habit.Note(decided);
  if (decided) Make(found, now_ms, bytes_max, answer);
  return decided;
}

BatchAnswer Batch::Answer(Store& store, Clock& clock, uint64_t bytes_max) {
  Sort();
  const uint64_t now_ms = clock.now_ms();
  ManyFound found;
  BatchAnswer answer;
  answer.outcome = store.GetMany(unique_, &found, /*ascending=*/true);
  if (answer.outcome.ok()) Make(found, now_ms, bytes_max, &answer);
  return answer;
}

bool Batch::Measure(Store& store, Clock& clock, size_t step_keys, BatchAnswer* measured) {
  Sort();
  if (measured_keys_ == unique_.size() || unique_.size() <= step_keys) return false;
  const size_t count = std::min(step_keys, unique_.size() - measured_keys_);
  const uint64_t now_ms = clock.now_ms();
  ManyFound found;
  measured->outcome = store.GetMany(std::span(unique_).subspan(measured_keys_, count), &found, /*ascending=*/true);
  if (!measured->outcome.ok()) return false;
  for (const auto& value : found.values) {
    if (value && !value->ExpiredAt(now_ms)) measured_bytes_ += value->payload.size();
  }
  measured_keys_ += count;
  if (measured_bytes_ <= kResponseBytesMax) return true;
  measured->failure = AnswerTooLarge(kResponseBytesMax);
  return false;
}

void Batch::Make(const ManyFound& found, uint64_t now_ms, uint64_t bytes_max, BatchAnswer* answer) const {
  std::vector<RowFields> rows(unique_.size());
  std::vector<const RowFields*> alive(unique_.size(), nullptr);
  for (size_t index = 0; index < rows.size(); ++index) {
    const auto& value = found.values[index];
    if (!value || value->ExpiredAt(now_ms)) continue;
    rows[index] = {value->payload, value->version, TtlMs(value->expires_at_ms, now_ms)};
    alive[index] = &rows[index];
  }
  uint64_t size = 0;
  for (const uint32_t place : places_) {
    if (alive[place] != nullptr) size += alive[place]->value.size() + kFoundBytes;
  }
  if (size > bytes_max) {
    answer->failure = AnswerTooLarge(bytes_max);
    return;
  }
  size_t bytes = 0;
  for (const uint32_t place : places_) bytes += LengthFieldBytes(GetResponseBytes(alive[place]));
  answer->message.reserve(bytes);
  for (const uint32_t place : places_) {
    AppendLengthHead(1, GetResponseBytes(alive[place]), &answer->message);
    AppendGetResponse(alive[place], &answer->message);
  }
}

namespace {

// A large batch on its way. The next job is queued when one is done, so that other namespaces have their turns, and
// nothing is read any more for a call that is over.
struct Reading {
  std::shared_ptr<Store> store;
  std::shared_ptr<Batch> batch;
  std::shared_ptr<Streams::Slot> view;
  uint64_t bytes_max;
  std::function<void(Call& call, BatchAnswer answer)> then;
};

void ReadAll(Call& call, std::shared_ptr<Reading> reading) {
  OffLoop(
      call,
      [reading, clock = &call.services().clock] {
        return reading->batch->Answer(*reading->store, *clock, reading->bytes_max);
      },
      [reading](Call& waiting, BatchAnswer answer) { reading->then(waiting, std::move(answer)); });
}

void MeasureStep(Call& call, std::shared_ptr<Reading> reading) {
  struct Step {
    bool more = false;
    BatchAnswer measured;
  };
  Services& services = call.services();
  OffLoop(
      call,
      [reading, clock = &services.clock, keys = Batch::StepKeys(services.settings.value_bytes_max)] {
        Step step;
        step.more = reading->batch->Measure(*reading->store, *clock, keys, &step.measured);
        return step;
      },
      [reading](Call& waiting, Step step) {
        if (step.more) return MeasureStep(waiting, reading);
        const bool fits = step.measured.outcome.ok() && !step.measured.failure;
        if (fits) return ReadAll(waiting, reading);
        reading->then(waiting, std::move(step.measured));
      });
}

}  // namespace

void AnswerBatchOffLoop(Call& call, std::shared_ptr<Store> store, std::shared_ptr<Batch> batch, bool large,
                        std::shared_ptr<Streams::Slot> view, uint64_t bytes_max,
                        std::function<void(Call& call, BatchAnswer answer)> then) {
  auto reading = std::make_shared<Reading>(
      Reading{std::move(store), std::move(batch), std::move(view), bytes_max, std::move(then)});
  return large ? MeasureStep(call, std::move(reading)) : ReadAll(call, std::move(reading));
}

}  // namespace prefixdb::front
