// Finished answers about tokens: who is calling, as Python found it, for as long as that holds.
//
// Nothing is decided here. Python's gate admits a token once and hands over a Session; the table keeps it under the
// token's SHA-256. When something changes that could make an answer wrong (a member, a group, a grant, a key, a
// revocation, a namespace), Python moves a stamp *before* the change is answered to whoever made it:
//
//   stamp := the number of changes so far
//   a session holds  <=>  nothing it depends on was changed at a stamp above its own, and its end has not come
//
// Why no old answer is served after a change was answered:
//
//   1. The change is durable and visible to Python before Changed() counts it. A session's stamp is read before Python
//      begins to look at the token (Upcalls::Take). So a session that does not know of the change has a stamp below
//      the change's, and a session with that stamp or a later one knows of it. What happens in between makes an answer
//      stale when it arrives, never wrong.
//   2. Changed() moves the stamps of what changed, then waits until every loop has ended the pass it was in (loop.h).
//      A pass that began before the move may have asked Holds() and been told yes; what it sends is with the kernel
//      when it ends. A pass that begins later sees the move. So when Changed() has returned nothing leaves that was
//      checked before it.
//      But for frames that were made before the move and that the kernel did not take, because the client does not
//      read: up to 64 KiB and a frame of a connection, of rows that its client was answered while it might have them.
//      They go when it reads on, or with the connection (transport_limits.h, `write_stall`).
//   3. A write that was submitted before the change may be committed after it, as one that was under way. Not into a
//      namespace that was changed: each write carries the guard of the namespace's row into the commit itself.
//
// What a session depends on: everyone's stamp, its namespace's, and with `home` that of namespace 0.
//
// Locks: Changed() is called from Python's threads, some of which hold locks of the catalog, none the interpreter's. It
// waits for loops only, and a loop waits for nobody: it queues questions and goes on.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "front/rules.h"

namespace prefixdb::front {

// When a namespace was last changed. Lives as long as sessions that look at it.
struct NamespaceStamp {
  explicit NamespaceStamp(uint64_t stamp) : changed(stamp) {}
  std::atomic<uint64_t> changed;
};

// Remembers the stamps of namespaces that sessions look at, and one for all others: the newest change among them. A
// namespace that comes back starts with that one, so its first answer may be stale without need and is asked for again.
//
// Thread-safe.
class Changes {
 public:
  // `settle`: Loop::Settle of every loop. What happened before it is seen by every pass that it does not wait for.
  explicit Changes(std::function<void()> settle) : settle_(std::move(settle)) {}

  uint64_t now() const noexcept { return count_.load(std::memory_order_acquire); }
  // Something of the namespace has changed, or of everyone with nothing; durable and visible already. Returns when no
  // loop is in a pass that could have checked the state before (calls `settle`; at once when nobody has a session of
  // the namespace, so that a hundred thousand namespaces are made and dropped without a stop). Not on a loop's thread.
  void Changed(std::optional<uint64_t> namespace_id);

  std::shared_ptr<const NamespaceStamp> StampOf(uint64_t namespace_id);
  uint64_t everyone() const noexcept { return everyone_.load(std::memory_order_acquire); }

  size_t remembered() const;  // Namespaces with a stamp of their own.

 private:
  void Forget();

  std::function<void()> settle_;
  std::atomic<uint64_t> count_{0};
  std::atomic<uint64_t> everyone_{0};
  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, std::shared_ptr<NamespaceStamp>> stamps_;
  uint64_t others_ = 0;         // The newest change of a namespace that is not in `stamps_`.
  uint64_t forgotten_ = 0;      // Namespaces that were dropped from `stamps_` so far, ...
  uint64_t settled_ = 0;        // ... and how many of them before the last `settle` that has returned began.
  size_t forget_at_ = 1 << 10;  // Size of `stamps_` at which those nobody looks at any more are dropped.
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
  std::shared_ptr<const NamespaceStamp> home;  // Of namespace 0 for a guest and for what was minted, else null.
  const Changes* changes = nullptr;

  // Nothing it depends on has changed since it was asked for.
  bool IsCurrent() const noexcept {
    return own->changed.load(std::memory_order_acquire) <= stamp && changes->everyone() <= stamp &&
           (home == nullptr || home->changed.load(std::memory_order_acquire) <= stamp);
  }
  bool Holds(uint64_t now_ms) const noexcept { return now_ms < ends_at_ms && IsCurrent(); }
};

using SessionPtr = std::shared_ptr<const Session>;
using TokenHash = std::string;  // 32 bytes. Empty: the caller who brings no token (see `anonymous`).

TokenHash HashToken(std::string_view token);

// The sessions that are kept; the least recently used goes first. Thread-safe.
class SessionTable {
 public:
  SessionTable(size_t sessions_max, size_t rule_bytes_max);
  ~SessionTable();
  SessionTable(const SessionTable&) = delete;
  SessionTable& operator=(const SessionTable&) = delete;

  SessionPtr Find(const TokenHash& hash);  // One that may not hold any more is returned, too.
  void Put(const TokenHash& hash, SessionPtr session);
  void Drop(const TokenHash& hash);
  size_t size() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace prefixdb::front
