#include "front/batch.h"

#include <algorithm>
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
  for (const std::string_view key : request.keys) size += key.size();
  keys_.Reserve(request.keys.size(), size);
  for (const std::string_view key : request.keys) keys_.Add(session.namespace_id, database_, key);
}

std::optional<Failure> Batch::CheckAgain(const Session& session) const {
  for (const rocksdb::Slice& key : keys_.all()) {
    if (auto failure = CheckRight(session, Right::kRead, database_, UserKey(key))) return failure;
  }
  return std::nullopt;
}

bool Batch::AnswerFromMemory(Store& store, Clock& clock, uint64_t bytes_max, BatchAnswer* answer) {
  thread_local ReadHabit habit;  // A loop is a thread.
  if (size() > kFewKeys || !habit.AsksMemory()) return false;
  keys_.Sort();
  ManyRows rows;
  bool decided = false;
  answer->outcome = keys_.ReadFromMemory(store, clock, &rows, &decided);
  if (!answer->outcome.ok()) return true;
  habit.Note(decided);
  if (decided) Make(rows, bytes_max, answer);
  return decided;
}

BatchAnswer Batch::Answer(Store& store, Clock& clock, uint64_t bytes_max) {
  keys_.Sort();
  ManyRows rows;
  BatchAnswer answer;
  answer.outcome = keys_.Read(store, clock, &rows);
  if (answer.outcome.ok()) Make(rows, bytes_max, &answer);
  return answer;
}

bool Batch::Measure(Store& store, Clock& clock, size_t step_keys, BatchAnswer* measured) {
  keys_.Sort();
  const auto distinct = keys_.distinct();
  if (measured_keys_ == distinct.size() || distinct.size() <= step_keys) return false;
  const size_t count = std::min(step_keys, distinct.size() - measured_keys_);
  const uint64_t now_ms = clock.now_ms();
  ManyFound found;
  measured->outcome = store.GetMany(distinct.subspan(measured_keys_, count), &found, /*ascending=*/true);
  if (!measured->outcome.ok()) return false;
  for (const auto& value : found.values) {
    if (value && !value->ExpiredAt(now_ms)) measured_bytes_ += value->payload.size();
  }
  measured_keys_ += count;
  if (measured_bytes_ <= kResponseBytesMax) return true;
  measured->failure = AnswerTooLarge(kResponseBytesMax);
  return false;
}

void Batch::Make(const ManyRows& rows, uint64_t bytes_max, BatchAnswer* answer) const {
  uint64_t size = 0;
  for (const uint32_t place : keys_.places()) {
    if (const RowFields* const row = rows.at(place)) size += row->value.size() + kFoundBytes;
  }
  if (size > bytes_max) {
    answer->failure = AnswerTooLarge(bytes_max);
    return;
  }
  size_t bytes = 0;
  for (const uint32_t place : keys_.places()) bytes += LengthFieldBytes(GetResponseBytes(rows.at(place)));
  answer->message.reserve(bytes);
  for (const uint32_t place : keys_.places()) {
    AppendLengthHead(1, GetResponseBytes(rows.at(place)), &answer->message);
    AppendGetResponse(rows.at(place), &answer->message);
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
