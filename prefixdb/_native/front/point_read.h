// One row for an answer: from memory at once, else from the disk in a worker.
//
// What memory cannot decide is asked of the disk in a worker, so that no call waits behind the disk for another one's
// row. Whether memory is worth asking at all the loop learns from its last reads (read_habit.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "front/off_loop.h"
#include "store.h"

namespace prefixdb::front {

// A GetResponse, of which a row whose lifetime has ended is no part; or an outcome that is not ok, for Python to judge.
struct PointAnswer {
  Outcome outcome;
  std::string message;
  uint64_t value_bytes = 0;
};

// True when memory has decided. Else the disk has to be asked. On a loop's thread.
bool AnswerFromMemory(Store& store, std::string_view key, Clock& clock, PointAnswer* answer);
// May wait for the disk.
PointAnswer AnswerFromDisk(Store& store, std::string_view key, Clock& clock);

// The same in a worker; `then(call, PointAnswer)` on the loop.
template <typename Then>
void AnswerOffLoop(Call& call, std::shared_ptr<Store> store, std::string_view key, Then then) {
  OffLoop(
      call,
      [store = std::move(store), key = std::string(key), clock = &call.services().clock] {
        return AnswerFromDisk(*store, key, *clock);
      },
      std::move(then));
}

}  // namespace prefixdb::front
