// Tasks that wait for their time: a heap that knows where each of its timers is, so that cancelling one (the end of
// nearly every deadline) takes it and what it holds out at once instead of leaving it until its time has come.
//
//   slots   what a timer does, at a place that does not move; its number is half of the timer's id
//   heap    (due, order) -> slot, four children to a node
//
// The other half of the id counts how often the slot was used: the id of a timer that has run means nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace prefixdb::front {

// Not thread-safe.
class Timers {
 public:
  using Task = std::function<void()>;
  using Time = std::chrono::steady_clock::time_point;
  using Id = uint64_t;  // 0 is none.

  Id Add(Time due, Task task) {
    const uint32_t slot = TakeSlot();
    slots_[slot].task = std::move(task);
    heap_.emplace_back();
    Up(heap_.size() - 1, Entry{due, next_order_++, slot});
    return (uint64_t{slots_[slot].uses} << 32) | slot;
  }

  // Takes the timer out; its task, or an empty one when it is not there any more.
  Task Remove(Id id) {
    const auto slot = static_cast<uint32_t>(id);
    if (slot >= slots_.size() || slots_[slot].uses != id >> 32 || slots_[slot].place == kNowhere) return {};
    return RemoveAt(slots_[slot].place);
  }

  bool empty() const noexcept { return heap_.empty(); }
  size_t size() const noexcept { return heap_.size(); }
  // REQUIRES: not empty().
  Time next() const noexcept { return heap_.front().due; }

  // Every timer that is added from now on is of this order or a later one. Of timers that are due at the same time the
  // one of the lower order comes first.
  uint64_t order() const noexcept { return next_order_; }
  // Takes the first one out when it is due and of an order below `before`, else an empty task.
  Task TakeDue(Time now, uint64_t before) {
    if (heap_.empty() || heap_.front().due > now || heap_.front().order >= before) return {};
    return RemoveAt(0);
  }
  Task TakeAny() { return heap_.empty() ? Task() : RemoveAt(heap_.size() - 1); }

 private:
  static constexpr uint32_t kNowhere = UINT32_MAX;
  static constexpr size_t kChildren = 4;

  struct Slot {
    Task task;
    uint32_t uses = 0;
    uint32_t place = kNowhere;  // In the heap.
  };
  struct Entry {
    Time due;
    uint64_t order = 0;
    uint32_t slot = 0;
    bool operator<(const Entry& other) const noexcept {
      return due != other.due ? due < other.due : order < other.order;
    }
  };

  uint32_t TakeSlot() {
    if (free_.empty()) {
      free_.push_back(static_cast<uint32_t>(slots_.size()));
      slots_.emplace_back();
    }
    const uint32_t slot = free_.back();
    free_.pop_back();
    if (++slots_[slot].uses == 0) slots_[slot].uses = 1;  // No id is 0.
    return slot;
  }

  Task RemoveAt(size_t place) {
    const uint32_t slot = heap_[place].slot;
    slots_[slot].place = kNowhere;
    Task task = std::exchange(slots_[slot].task, nullptr);
    free_.push_back(slot);
    const Entry last = heap_.back();
    heap_.pop_back();
    if (place < heap_.size()) {
      if (place > 0 && last < heap_[(place - 1) / kChildren]) {
        Up(place, last);
      } else {
        Down(place, last);
      }
    }
    return task;
  }

  void Set(size_t place, const Entry& entry) {
    heap_[place] = entry;
    slots_[entry.slot].place = static_cast<uint32_t>(place);
  }

  void Up(size_t place, const Entry entry) {
    while (place > 0) {
      const size_t parent = (place - 1) / kChildren;
      if (!(entry < heap_[parent])) break;
      Set(place, heap_[parent]);
      place = parent;
    }
    Set(place, entry);
  }

  void Down(size_t place, const Entry entry) {
    while (true) {
      const size_t first = place * kChildren + 1;
      if (first >= heap_.size()) break;
      size_t least = first;
      const size_t end = first + kChildren < heap_.size() ? first + kChildren : heap_.size();
      for (size_t child = first + 1; child < end; ++child) {
        if (heap_[child] < heap_[least]) least = child;
      }
      if (!(heap_[least] < entry)) break;
      Set(place, heap_[least]);
      place = least;
    }
    Set(place, entry);
  }

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  std::vector<Entry> heap_;
  uint64_t next_order_ = 0;
};

}  // namespace prefixdb::front
