// Finished answers about tokens: who is calling, as Python found it, for as long as that holds.
//
// Nothing is decided here. Python's gate admits a token once and hands over a Session; the table keeps it under the
// token's SHA-256. When something changes that could make an answer wrong (a member, a group, a grant, a key, a
// revocation, a namespace), Python moves a stamp *before* the change is answered to whoever made it:
//
//   stamp := the number of changes so far
//   a session holds  <=>  nothing it depends on was changed at a stamp above its own, and its end has not come
//
// A session's stamp is read before Python begins to admit its token, so a change that happens meanwhile makes the
// answer stale when it arrives, never wrong. Changed() returns only when every loop has ended the pass it was in (see
// loop.h): no row leaves under the old answer after that.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "commit.h"
#include "front/rules.h"

namespace prefixdb::front {

// When a namespace was last changed. Lives as long as sessions that look at it.
struct NamespaceStamp {
  std::atomic<uint64_t> changed{0};
};

// Thread-safe.
class Changes {
 public:
  explicit Changes(std::function<void()> settle) : settle_(std::move(settle)) {}

  uint64_t now() const noexcept { return count_.load(std::memory_order_acquire); }
  // Something of the namespace has changed, or of everyone with nothing; durable and visible already. Returns when no
  // loop is in a pass that could have checked the state before (calls `settle`). Not on a loop's thread.
  void Changed(std::optional<uint64_t> namespace_id);

  std::shared_ptr<const NamespaceStamp> StampOf(uint64_t namespace_id);
  uint64_t everyone() const noexcept { return everyone_.load(std::memory_order_acquire); }

 private:
  std::function<void()> settle_;
  std::atomic<uint64_t> count_{0};
  std::atomic<uint64_t> everyone_{0};
  std::mutex mutex_;
  std::unordered_map<uint64_t, std::shared_ptr<NamespaceStamp>> stamps_;
};

// Immutable.
struct Session {
  uint64_t namespace_id = 0;
  RuleSet rules;
  bool read_only = false;      // The namespace takes deletes only.
  uint64_t ends_at_ms = 0;     // The token's end with its leeway; the session does not hold from then on.
  std::string guard_key;       // Every write is committed under the condition that this row ...
  uint64_t guard_version = 0;  // ... still has this version: the namespace is as it was.
  uint64_t stamp = 0;
  std::shared_ptr<const NamespaceStamp> own;
  std::shared_ptr<const NamespaceStamp> home;  // Of namespace 0 for a guest, else null.
  const Changes* changes = nullptr;

  bool Holds(uint64_t now_ms) const noexcept {
    return now_ms < ends_at_ms && own->changed.load(std::memory_order_acquire) <= stamp &&
           changes->everyone() <= stamp && (home == nullptr || home->changed.load(std::memory_order_acquire) <= stamp);
  }
};

using SessionPtr = std::shared_ptr<const Session>;
using TokenHash = std::string;  // 32 bytes. Empty: the caller who brings no token (see `anonymous`).

TokenHash HashToken(std::string_view token);

// The sessions that are kept; the least recently used goes first. Thread-safe.
class SessionTable {
 public:
  SessionTable(size_t sessions_max, size_t rule_bytes_max);

  SessionPtr Find(const TokenHash& hash);  // One that may not hold any more is returned, too.
  void Put(const TokenHash& hash, SessionPtr session);
  void Drop(const TokenHash& hash);
  size_t size() const;

 private:
  struct Parts;
  std::shared_ptr<Parts> parts_;
};

}  // namespace prefixdb::front
