#include "front/sessions.h"

#include <openssl/sha.h>

#include <algorithm>
#include <iterator>
#include <list>
#include <utility>

namespace prefixdb::front {
namespace {

// What a session takes beside its rules and its guard, with its place in the table, about.
constexpr size_t kSessionBytes = 512;

}  // namespace

void Changes::Changed(std::optional<uint64_t> namespace_id) {
  uint64_t forgotten = 0;
  {
    const std::lock_guard lock(mutex_);
    const uint64_t stamp = count_.load(std::memory_order_relaxed) + 1;
    count_.store(stamp, std::memory_order_release);
    if (!namespace_id) {
      everyone_.store(stamp, std::memory_order_release);
    } else if (const auto found = stamps_.find(*namespace_id); found != stamps_.end()) {
      found->second->changed.store(stamp, std::memory_order_release);
    } else {
      others_ = stamp;
      // There is no session of it. A pass may have checked one that went meanwhile only if it was forgotten meanwhile.
      if (settled_ == forgotten_) return;
    }
    forgotten = forgotten_;
  }
  settle_();
  const std::lock_guard lock(mutex_);
  settled_ = std::max(settled_, forgotten);
}

std::shared_ptr<const NamespaceStamp> Changes::StampOf(uint64_t namespace_id) {
  const std::lock_guard lock(mutex_);
  if (const auto found = stamps_.find(namespace_id); found != stamps_.end()) return found->second;
  if (stamps_.size() >= forget_at_) Forget();
  return stamps_.emplace(namespace_id, std::make_shared<NamespaceStamp>(others_)).first->second;
}

size_t Changes::remembered() const {
  const std::lock_guard lock(mutex_);
  return stamps_.size();
}

// Nobody but the map holds a stamp with a count of one, and only here, under the lock, could somebody get hold of it.
void Changes::Forget() {
  for (auto each = stamps_.begin(); each != stamps_.end();) {
    if (each->second.use_count() == 1) {
      others_ = std::max(others_, each->second->changed.load(std::memory_order_relaxed));
      each = stamps_.erase(each);
      ++forgotten_;
    } else {
      ++each;
    }
  }
  constexpr size_t kFewest = 1 << 10;
  forget_at_ = std::max(kFewest, 2 * stamps_.size());
}

TokenHash HashToken(std::string_view token) {
  TokenHash hash(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(),
         reinterpret_cast<unsigned char*>(hash.data()));
  return hash;
}

struct SessionTable::Parts {
  struct Entry {
    TokenHash hash;
    SessionPtr session;
    size_t bytes;
  };
  using Entries = std::list<Entry>;  // The most recently used first.

  Parts(size_t most, size_t most_bytes) : sessions_max(most), rule_bytes_max(most_bytes) {}

  // Moves an entry out of the table, for its session to be freed outside of the lock.
  void Take(Entries::iterator entry, Entries* gone) {
    rule_bytes -= entry->bytes;
    by_hash.erase(entry->hash);
    gone->splice(gone->end(), entries, entry);
  }

  const size_t sessions_max;
  const size_t rule_bytes_max;
  mutable std::mutex mutex;
  Entries entries;
  std::unordered_map<std::string_view, Entries::iterator> by_hash;  // Views of the entries' own hashes.
  size_t rule_bytes = 0;
};

SessionTable::SessionTable(size_t sessions_max, size_t rule_bytes_max)
    : parts_(std::make_unique<Parts>(sessions_max, rule_bytes_max)) {}

SessionTable::~SessionTable() = default;

SessionPtr SessionTable::Find(const TokenHash& hash) {
  const std::lock_guard lock(parts_->mutex);
  const auto found = parts_->by_hash.find(hash);
  if (found == parts_->by_hash.end()) return nullptr;
  parts_->entries.splice(parts_->entries.begin(), parts_->entries, found->second);
  return found->second->session;
}

void SessionTable::Put(const TokenHash& hash, SessionPtr session) {
  const size_t bytes = kSessionBytes + session->rules.bytes() + session->guard_key.size();
  Parts::Entries added;
  added.push_front({hash, std::move(session), bytes});
  Parts::Entries gone;
  {
    const std::lock_guard lock(parts_->mutex);
    if (const auto found = parts_->by_hash.find(hash); found != parts_->by_hash.end()) {
      parts_->Take(found->second, &gone);
    }
    parts_->entries.splice(parts_->entries.begin(), added);
    parts_->by_hash.emplace(parts_->entries.front().hash, parts_->entries.begin());
    parts_->rule_bytes += bytes;
    while (parts_->entries.size() > parts_->sessions_max || parts_->rule_bytes > parts_->rule_bytes_max) {
      parts_->Take(std::prev(parts_->entries.end()), &gone);
    }
  }
}

void SessionTable::Drop(const TokenHash& hash) {
  Parts::Entries gone;
  const std::lock_guard lock(parts_->mutex);
  if (const auto found = parts_->by_hash.find(hash); found != parts_->by_hash.end()) {
    parts_->Take(found->second, &gone);
  }
}

size_t SessionTable::size() const {
  const std::lock_guard lock(parts_->mutex);
  return parts_->entries.size();
}

}  // namespace prefixdb::front
