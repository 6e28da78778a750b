// What became of a call: fine, or which kind of trouble and RocksDB's own words for it.
//
// The store throws nothing; every call that can fail returns an Outcome, and whoever speaks to a caller (module.cc, a
// front) turns it into that caller's kind of error. Thread-safe as any value.
#pragma once

#include <rocksdb/status.h>

#include <cstdint>
#include <string>
#include <utility>

namespace prefixdb {

enum class Fault : uint8_t {
  kNone,
  kEngine,           // `text` is the text of a RocksDB status, which begins with its kind ("IO error: ", ...).
  kClosed,           // The store was closed, is being closed, or belongs to the process this one was forked from.
  kSpanViolation,    // The engine returned a key outside the span it was asked for: answers can no longer be trusted.
  kDamagedRow,       // A stored value is cut short or of an unknown format.
  kInvalidArgument,  // The caller's mistake; nothing was done.
};

struct [[nodiscard]] Outcome {
  Fault fault = Fault::kNone;
  // False for a write that was refused unseen because an earlier one had failed: it was certainly not applied.
  bool attempted = true;
  std::string text;

  bool ok() const noexcept { return fault == Fault::kNone; }

  static Outcome Of(const rocksdb::Status& status) {
    return status.ok() ? Outcome{} : Outcome{Fault::kEngine, true, status.ToString()};
  }
  static Outcome Closed() { return {Fault::kClosed, false, "the store is closed"}; }
  static Outcome DamagedRow() { return {Fault::kDamagedRow, true, "a stored value cannot be read"}; }
  static Outcome SpanViolation() { return {Fault::kSpanViolation, true, "a key outside the span was returned"}; }
  static Outcome Invalid(std::string text) { return {Fault::kInvalidArgument, false, std::move(text)}; }
};

}  // namespace prefixdb
