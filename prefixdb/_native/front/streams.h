// Open streaming calls of the front: how many a namespace has, and how many of them may look at its rows.
//
// Two counts, as in prefixdb/service/streams.py: a *slot* until the transport has let go of the call, so that clients
// which never read cannot pile up buffers; a *view* until its cursor is closed. Python waits for the views of a banned
// namespace before its id is published to the compaction filter. Count the view first, then look whether the session
// holds: a ban between the two would find no view.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace prefixdb::front {

// Thread-safe.
class Streams {
 public:
  // Movable; gives back what it holds.
  class Slot {
   public:
    Slot() = default;
    Slot(Slot&& other) noexcept { *this = std::move(other); }
    Slot& operator=(Slot&& other) noexcept {
      std::swap(streams_, other.streams_);
      std::swap(namespace_id_, other.namespace_id_);
      std::swap(viewing_, other.viewing_);
      return *this;
    }
    ~Slot() { Release(); }
    void CloseView();  // Idempotent. The cursor is closed.
    void Release();    // Idempotent. Closes the view, too.
    explicit operator bool() const noexcept { return streams_ != nullptr; }

   private:
    friend class Streams;
    Streams* streams_ = nullptr;
    uint64_t namespace_id_ = 0;
    bool viewing_ = false;
  };

  Streams(size_t per_namespace_max, size_t all_max) : per_namespace_max_(per_namespace_max), all_max_(all_max) {}

  // An empty slot when there are too many (TOO_MANY_STREAMS).
  Slot Open(uint64_t namespace_id);
  uint64_t views(uint64_t namespace_id) const;
  size_t open() const;

 private:
  struct Counts {
    size_t slots = 0;
    size_t views = 0;
  };
  void CloseView(uint64_t namespace_id);
  void CloseSlot(uint64_t namespace_id);

  const size_t per_namespace_max_;
  const size_t all_max_;
  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, Counts> counts_;
  size_t open_ = 0;
};

}  // namespace prefixdb::front
