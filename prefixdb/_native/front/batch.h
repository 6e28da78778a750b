// The rows of one BatchGet, read for one answer without reading more than one answer can carry: the twin of
// prefixdb/service/batch_read.py.
//
// The store reads a batch as a whole, from one view, so that ten thousand keys of a mebibyte each would fill the memory
// before anybody could count. A few keys are read on the loop when they are in memory; that takes less than the way to
// a worker. A small batch is read by a worker at once. A large one is first measured in small steps, each a job of its
// own, and read as a whole only when it fits; what changes in between is bounded by what can be written in those
// milliseconds.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "front/call.h"
#include "front/many_rows.h"
#include "front/messages.h"
#include "store.h"

namespace prefixdb::front {

// A BatchGetResponse; or why there is none: an outcome for Python to judge, or a failure of the request.
struct BatchAnswer {
  Outcome outcome;
  std::optional<Failure> failure;
  std::string message;
};

// BATCH_TOO_LARGE, of an answer with more than `limit` bytes.
Failure AnswerTooLarge(uint64_t limit);

// One thread at a time, any. Owns its keys.
class Batch {
 public:
  // Keys of one step, and of a batch that is read at once.
  static size_t StepKeys(uint64_t value_bytes_max) noexcept;

  // BATCH_TOO_LARGE, KEY_EMPTY, KEY_TOO_LARGE, BAD_FIELD or NOT_PERMITTED, or nothing.
  static std::optional<Failure> Check(const Session& session, const BatchGetRequest& request);
  // REQUIRES: Check had nothing to say.
  Batch(const Session& session, const BatchGetRequest& request);
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  size_t size() const noexcept { return keys_.all().size(); }
  // Whether it has to be measured first: it has more than StepKeys distinct keys.
  bool IsLarge(uint64_t value_bytes_max) const { return keys_.HasMoreThan(StepKeys(value_bytes_max)); }
  // NOT_PERMITTED when another session may not read every key, or nothing.
  std::optional<Failure> CheckAgain(const Session& session) const;

  // Reads everything; BATCH_TOO_LARGE when the answer would have more than `bytes_max` bytes. FromMemory: false when
  // these are no few keys, or the disk has to be asked; on a loop's thread.
  bool AnswerFromMemory(Store& store, Clock& clock, uint64_t bytes_max, BatchAnswer* answer);
  BatchAnswer Answer(Store& store, Clock& clock, uint64_t bytes_max);

  // Reads the next `step_keys` keys and counts their bytes; false when there is no need to go on: `measured` says what
  // is wrong, or nothing, and the batch fits.
  bool Measure(Store& store, Clock& clock, size_t step_keys, BatchAnswer* measured);

 private:
  void Make(const ManyRows& rows, uint64_t bytes_max, BatchAnswer* answer) const;

  const uint32_t database_;
  ManyKeys keys_;
  size_t measured_keys_ = 0;
  uint64_t measured_bytes_ = 0;
};

// Reads in workers; `then` on the loop, unless the call is over by then. `view`: kept until nobody reads any more.
// `large`: as IsLarge says.
void AnswerBatchOffLoop(Call& call, std::shared_ptr<Store> store, std::shared_ptr<Batch> batch, bool large,
                        std::shared_ptr<Streams::Slot> view, uint64_t bytes_max,
                        std::function<void(Call& call, BatchAnswer answer)> then);

}  // namespace prefixdb::front
