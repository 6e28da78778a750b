// A walk over one span on one consistent view: the C++ side of prefixdb/store/cursor.py.
//
// The view is a plain RocksDB iterator, without a snapshot. It pins the files and memtables it began with, so it goes
// on returning rows that a compaction filter drops meanwhile from newer files. (A snapshot would not: filters ignore
// snapshots, so a read "as of" one misses what was dropped.)
//
// Every key is compared with the span, whatever the iterator's own bounds say: a key outside would be another tenant's.
// Damage ends an iterator exactly like the end of the data does, so its status is asked after every end.
//
// Blocks read by a walk go into the block cache: tenants ask for the same first pages again and again, and how far a
// walk will go is not known when it begins. A long one displaces data blocks of others, but not index and filter
// blocks: half of the cache is theirs.
#pragma once

#include <rocksdb/iterator.h>
#include <rocksdb/slice.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "arena.h"
#include "outcome.h"
#include "row_packer.h"
#include "use_count.h"
#include "value_codec.h"

namespace prefixdb {

struct CursorOptions {
  std::string begin;
  std::string end;    // Not part of the span. begin == end is empty.
  std::string bound;  // Where the engine stops; equal to `end` but for the self-test.
  bool reverse = false;
  bool keys_only = false;
  bool bulk = false;  // Blocks that are read for it are not kept in the cache: it reads all of a namespace, once.
};

// Rows of one fetch; their bytes lie in the block's arena.
struct RowBlock {
  struct Row {
    std::string_view key;
    std::string_view payload;
    uint64_t version;
    uint64_t expires_at_ms;
  };
  Arena bytes;
  std::vector<Row> rows;
};

// Takes rows where they lie in the engine, for whoever makes something else of them at once.
class RowTaker {
 public:
  enum class Answer : uint8_t {
    kMore,
    kEnough,   // Taken; the walk stops behind it.
    kForeign,  // Not taken: the caller may have no such row.
  };
  virtual ~RowTaker() = default;
  // The views last until it returns. The value of a walk over keys only is there, too.
  virtual Answer Take(std::string_view key, const StoredValue& value) = 0;
};

// Thread-safe: any thread may end it at any moment; calls of several threads take turns.
class Cursor {
 public:
  // How many iterators of a store are alive; the store waits for 0 before it destroys the database. Shared, because a
  // cursor may outlive its store. Thread-safe.
  class Views {
   public:
    void Add() {
      const std::lock_guard lock(mutex_);
      ++alive_;
    }
    void Remove() {
      const std::lock_guard lock(mutex_);
      if (--alive_ == 0) gone_.notify_all();
    }
    void WaitForNone() {
      std::unique_lock lock(mutex_);
      gone_.wait(lock, [this] { return alive_ == 0; });
    }

   private:
    std::mutex mutex_;
    std::condition_variable gone_;
    size_t alive_ = 0;
  };

  // What the iterator was opened with; it borrows the bounds for as long as it lives.
  struct Bounds {
    std::string begin;
    std::string bound;
    rocksdb::Slice lower;
    rocksdb::Slice upper;
  };

  Cursor(CursorOptions options, std::unique_ptr<Bounds> bounds, std::unique_ptr<rocksdb::Iterator> iterator,
         uint64_t generation, std::shared_ptr<Views> views);
  ~Cursor();
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;

  // Appends the next rows. No rows and an ok outcome mean the end of the walk. It ends with `max_rows` rows, with the
  // row that brings keys and payloads to `max_bytes`, or after about 10 ms when it has a row. Rows whose lifetime ended
  // at or before `now_ms` are left out; 0 leaves none out. Rows in front of damage are returned with an ok outcome, and
  // the next call meets the damage again. REQUIRES: max_rows >= 1.
  Outcome Fetch(uint64_t max_rows, uint64_t max_bytes, uint64_t now_ms, RowBlock* block);

  // As Fetch, but hands the rows to `taker`, which says when it has enough; one that it finds foreign is a span
  // violation. `ended`: no row is left, which Fetch would tell with the next call.
  Outcome Visit(uint64_t now_ms, RowTaker* taker, bool* ended);

  // Adds the next rows to `packer` until it takes no more; what it did not take is where the next call begins. No rows
  // and an ok outcome mean the end of the walk. Unlike Fetch it goes on for as long as it takes: nobody holds a lock
  // meanwhile, and Close ends it. A row that `packer` finds foreign is a span violation. Damage as in Fetch.
  // REQUIRES: neither reverse nor keys_only.
  Outcome Pack(uint64_t now_ms, RowPacker* packer);

  // Advances over at most `max_rows` live rows; fewer only at the end.
  Outcome Count(uint64_t max_rows, uint64_t now_ms, uint64_t* counted);

  // Releases the view; later calls answer Closed. Harmless when called again. Waits for a running call, which notices.
  void Close();

 private:
  // What becomes of the walk after a row.
  enum class Next : uint8_t {
    kMore,
    kEnough,   // The row was taken; the walk stops behind it.
    kNotThis,  // The row was not taken; the walk stops in front of it.
    kForeign,  // The row is none that the caller may have.
  };

  // Calls `take(key, value)` per live row, which answers with a Next. `timed`: stop after about 10 ms.
  template <typename Take>
  Outcome Walk(uint64_t now_ms, bool timed, Take take);
  void Start();
  void ReleaseView();  // REQUIRES: mutex_ is held, or nobody else has the cursor.
  bool InSpan(std::string_view key) const noexcept { return options_.begin <= key && key < options_.end; }

  const CursorOptions options_;
  const uint64_t generation_;
  const std::shared_ptr<Views> views_;
  std::atomic<bool> closing_{false};
  std::mutex mutex_;
  std::unique_ptr<Bounds> bounds_;
  std::unique_ptr<rocksdb::Iterator> iterator_;
  bool started_ = false;
  bool done_ = false;
};

}  // namespace prefixdb
