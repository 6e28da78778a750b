// What one response of a Pipeline may still carry. Rows and batches are counted by their bytes, everything else by a
// flat rate, in the order of the operations: what does not fit is refused by itself, and what comes behind it may still
// fit.
//
// Not thread-safe; a value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "front/failure.h"

namespace prefixdb::front {

class ResponseBudget {
 public:
  // What one result takes beside the values in it, at most; an error takes more and is rare.
  static constexpr int64_t kResultBytes = 64;

  void BeginResult() noexcept { left_ -= kResultBytes; }
  void TakeBack() noexcept { left_ += kResultBytes; }  // The operation is done again.
  // BATCH_TOO_LARGE when the response cannot carry so much more.
  std::optional<Failure> Spend(uint64_t bytes) {
    const auto size = static_cast<int64_t>(bytes);
    if (size > left_) {
      return Fail(Reason::kBatchTooLarge, "The response would be too large; ask for less in one message.",
                  {{"limit", std::to_string(kResponseBytesMax)}});
    }
    left_ -= size;
    return std::nullopt;
  }
  uint64_t left() const noexcept { return left_ > 0 ? static_cast<uint64_t>(left_) : 0; }

 private:
  int64_t left_ = static_cast<int64_t>(kResponseBytesMax);
};

}  // namespace prefixdb::front
