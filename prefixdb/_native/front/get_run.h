// Consecutive Gets of a Pipeline's message, read as one (many_rows.h) in a worker.
//
// Only what is usual is answered like that. When the store fails or is being exchanged, or the session is another one
// by the time the worker is done, nothing of what was read is used: the pipeline reads the same Gets one by one, so
// that each has the answer that is its own.
//
// Fewer than kGetsMin are cheaper on the loop. More than one step of a batch (batch.h) are several runs, so that one
// read brings no more into memory than that, and other calls have their turns.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "front/many_rows.h"
#include "front/response_budget.h"
#include "front/sessions.h"

namespace prefixdb::front {

// One thread at a time, any.
class GetRun {
 public:
  static constexpr size_t kGetsMin = 9;

  // The Gets that `operations` begins with, at most `most`. REQUIRES: each is one for Parse.
  static std::vector<GetRequest> Find(std::span<const std::string_view> operations, size_t most);

  // Looks at each with the session's rights.
  GetRun(const Session& session, std::span<const GetRequest> gets);
  GetRun(const GetRun&) = delete;
  GetRun& operator=(const GetRun&) = delete;

  size_t size() const noexcept { return places_.size(); }

  struct Answer {
    Outcome outcome;
    std::string results;  // As in a PipelineResponse.
    ResponseBudget budget;
  };
  // May wait for the disk. `budget`: before the run; in the answer, after it.
  Answer Read(Store& store, Clock& clock, ResponseBudget budget);

 private:
  // What an operation is answered: with a row, or with an error that was found before anything was read.
  struct Place {
    bool refused;
    uint32_t index;  // In `keys_` or `errors_`.
  };

  std::vector<Place> places_;
  ManyKeys keys_;
  std::vector<std::string> errors_;  // Encoded.
};

}  // namespace prefixdb::front
