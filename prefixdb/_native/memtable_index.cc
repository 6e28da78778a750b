#include "memtable_index.h"

#include <bit>
#include <new>
#include <thread>
#include <utility>

namespace prefixdb {

namespace {

constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;
constexpr auto kRelaxed = std::memory_order_relaxed;

constexpr int kSpinsMax = 64;        // Then the writer may have lost its processor, and gets ours.
constexpr size_t kLooseSkipMax = 4;  // Bytes of a head that may be the same for all entries of a node.
constexpr size_t kLineBytes = MemtableIndex::kAlign;

size_t SharedBytes(std::string_view one, std::string_view other) noexcept {
  const size_t size = std::min(one.size(), other.size());
  return static_cast<size_t>(
      std::mismatch(one.begin(), one.begin() + static_cast<ptrdiff_t>(size), other.begin()).first - one.begin());
}

}  // namespace

// `count` entries in order, and what they begin with. Of a leaf they are the entries; of a node above, the first entry
// of each child but the first child.
//
// Only the writer changes it. It makes the version odd, changes, and makes it even; every change is a release and every
// read an acquire, so that a reader that has seen any of them sees the odd version, too.
struct alignas(MemtableIndex::kAlign) MemtableIndex::Node {
  explicit Node(int the_level) noexcept : level(the_level) {}

  const int level;  // 0: a leaf.
  std::atomic<int> count{0};
  std::atomic<uint64_t> version{0};
  // Heads begin after so many bytes, which all user keys of the node have in common. The keys of a child between two
  // entries have in common what these two have, behind their ends followed by zeros as heads are.
  std::atomic<size_t> skip{0};
  std::atomic<uint64_t> heads[kSlots];
  std::atomic<Entry*> entries[kSlots];

  Entry* entry(int slot) const noexcept { return entries[slot].load(kAcquire); }
  uint64_t head(int slot) const noexcept { return heads[slot].load(kAcquire); }
  Node* child(int slot) const noexcept;  // REQUIRES: not a leaf.

  void Set(int slot, uint64_t head, Entry* entry) noexcept {
    heads[slot].store(head, kRelease);
    entries[slot].store(entry, kRelease);
  }
  void SetSkip(size_t bytes) noexcept {
    skip.store(bytes, kRelease);
    const int end = count.load(kRelaxed);
    for (int slot = 0; slot < end; ++slot) heads[slot].store(entry(slot)->key().Head(bytes), kRelease);
  }

  // For the writer, around its changes.
  void BeginChange() noexcept { version.store(version.load(kRelaxed) + 1, kRelaxed); }
  void EndChange() noexcept { version.store(version.load(kRelaxed) + 1, kRelease); }

  void Prefetch() const noexcept {
    const char* line = reinterpret_cast<const char*>(this);
    for (size_t offset = 0; offset < sizeof(Node); offset += kLineBytes) __builtin_prefetch(line + offset);
  }
};

struct MemtableIndex::Inner : Node {
  using Node::Node;
  std::atomic<Node*> children[kSlots + 1];
};

MemtableIndex::Node* MemtableIndex::Node::child(int slot) const noexcept {
  return static_cast<const Inner*>(this)->children[slot].load(kAcquire);
}

// How many entries of the node come before the key, and how many first bytes it has in common with all entries in the
// child there, followed by zeros where it ends.
struct MemtableIndex::Place {
  int slot;
  size_t known;
};

MemtableIndex::MemtableIndex(Memory memory) : memory_(std::move(memory)), root_(NewNode(0)) {}

MemtableIndex::Node* MemtableIndex::NewNode(int level) const {
  if (level == 0) return new (memory_(sizeof(Node))) Node(level);
  return new (memory_(sizeof(Inner))) Inner(level);
}

MemtableIndex::Place MemtableIndex::Search(const Node& node, const InternalKey& key, bool or_equal,
                                           size_t known) noexcept {
  const int count = node.count.load(kAcquire);
  if (count == 0) return {0, known};
  const size_t skip = node.skip.load(kAcquire);
  if (skip > known) {
    const std::string_view first = node.entry(0)->key().user_key().substr(0, skip);
    const int order = key.user_key().substr(0, first.size()).compare(first);
    if (order != 0) return {order < 0 ? 0 : count, known};
  }
  const uint64_t head = key.Head(skip);
  int slot = 0;
  for (int size = count; size > 0;) {
    const int half = size / 2;
    const bool less = node.head(slot + half) < head;
    slot = less ? slot + half + 1 : slot;
    size = less ? size - half - 1 : half;
  }
  int end = slot;
  while (end < count && node.head(end) == head) ++end;
  while (slot < end) {
    const int middle = slot + (end - slot) / 2;
    const int order = node.entry(middle)->key().Compare(key);
    if (order < 0 || (order == 0 && or_equal)) {
      slot = middle + 1;
    } else {
      end = middle;
    }
  }
  if (slot > 0 && slot < count) {
    const int same_bits = std::countl_zero(node.head(slot - 1) ^ node.head(slot));
    known = std::max(known, skip + static_cast<size_t>(same_bits) / 8);
  }
  return {slot, known};
}

Entry* MemtableIndex::LastBefore(const InternalKey& key, bool or_equal) const noexcept {
  Entry* found = nullptr;
  size_t known = 0;
  int spins = 0;
  const Node* node = root_.load(kAcquire);
  while (true) {
    const uint64_t version = node->version.load(kAcquire);
    const Place place = Search(*node, key, or_equal, known);
    Entry* entry = place.slot > 0 ? node->entry(place.slot - 1) : found;
    const Node* child = node->level > 0 ? node->child(place.slot) : nullptr;
    if (version % 2 != 0 || node->version.load(kAcquire) != version) {
      if (++spins % kSpinsMax == 0) std::this_thread::yield();
      continue;
    }
    found = entry;
    if (child == nullptr) return found;
    known = place.known;
    node = child;
    node->Prefetch();
  }
}

double MemtableIndex::ShareBefore(const InternalKey& key) const noexcept {
  double share = 0;
  double width = 1;
  size_t known = 0;
  for (const Node* node = root_.load(kAcquire);;) {
    const Place place = Search(*node, key, false, known);
    const int count = node->count.load(kAcquire);
    if (node->level == 0) return count > 0 ? std::min(share + width * place.slot / count, 1.0) : share;
    // Nodes are between half full and full, so their children are weighed.
    double all = 0;
    double before = 0;
    for (int slot = 0; slot <= count; ++slot) {
      all += node->child(slot)->count.load(kAcquire) + 1;
      if (slot + 1 == place.slot) before = all;
    }
    share += width * before / all;
    known = place.known;
    node = node->child(place.slot);
    width *= (node->count.load(kAcquire) + 1) / all;
  }
}

MemtableIndex::Way MemtableIndex::Prepare(const InternalKey& key) const {
  Way way;
  size_t known = 0;
  for (Node* node = root_.load(kRelaxed);; ++way.leaf) {
    const Place place = Search(*node, key, true, known);
    way.steps[way.leaf] = {node, place.slot, known};
    if (node->level == 0) {
      // What a leaf begins with is in it, but for the very first.
      if (place.slot > 0) way.before = node->entry(place.slot - 1);
      break;
    }
    known = place.known;
    node = node->child(place.slot);
    node->Prefetch();
  }
  int full = way.leaf;
  for (; full >= 0 && way.steps[full].node->count.load(kRelaxed) == kSlots; --full) {
    way.right[full] = NewNode(way.steps[full].node->level);
  }
  if (full < 0) way.root = NewNode(way.steps[0].node->level + 1);
  return way;
}

void MemtableIndex::Insert(const Way& way, Entry* entry) noexcept {
  Entry* first = entry;
  Node* child = nullptr;
  for (int depth = way.leaf;; --depth) {
    const auto [node, slot, known] = way.steps[depth];
    if (node->count.load(kRelaxed) < kSlots) return Add(node, {slot, known}, first, child);
    Node* const right = way.right[depth];
    // Who writes in ascending order leaves full nodes behind; all others halve them.
    const int keep = slot < kSlots ? kSlots / 2 : node->level == 0 ? kSlots : kSlots - 1;
    Entry* const middle = Split(node, right, keep, known);
    Entry* const up = middle != nullptr ? middle : first;
    if (slot > keep || up == first) {
      Add(right, {slot - (kSlots - right->count.load(kRelaxed)), known}, first, child);
    } else {
      Add(node, {slot, known}, first, child);
    }
    if (depth == 0) {
      static_cast<Inner*>(way.root)->children[0].store(node, kRelaxed);
      Add(way.root, {0, 0}, up, right);
      root_.store(way.root, kRelease);
      return;
    }
    first = up;
    child = right;
  }
}

// Puts an entry at a slot, and of a node above the child that begins with it.
void MemtableIndex::Add(Node* node, const Place& at, Entry* first, Node* child) noexcept {
  const InternalKey key = first->key();
  const int count = node->count.load(kRelaxed);
  node->BeginChange();
  if (count == 0) {
    node->skip.store(key.user_key().size(), kRelease);
  } else if (const size_t skip = node->skip.load(kRelaxed); skip > at.known) {
    const size_t shared = SharedBytes(key.user_key(), node->entry(0)->key().user_key().substr(0, skip));
    if (shared < skip) node->SetSkip(shared);
  }
  for (int slot = count; slot > at.slot; --slot) node->Set(slot, node->head(slot - 1), node->entry(slot - 1));
  node->Set(at.slot, key.Head(node->skip.load(kRelaxed)), first);
  if (child != nullptr) {
    auto& children = static_cast<Inner*>(node)->children;
    for (int slot = count + 1; slot > at.slot + 1; --slot) {
      children[slot].store(node->child(slot - 1), kRelease);
    }
    children[at.slot + 1].store(child, kRelease);
  }
  node->count.store(count + 1, kRelease);
  node->EndChange();
}

// Leaves the first `keep` entries where they are and moves the others to the right. Returns the entry that parts the
// two; null when that is the one to come. Above the leaves it belongs to neither.
Entry* MemtableIndex::Split(Node* node, Node* right, int keep, size_t known) noexcept {
  const bool leaf = node->level == 0;
  const int from = leaf ? keep : keep + 1;
  Entry* const up = keep < kSlots ? node->entry(keep) : nullptr;
  node->BeginChange();
  right->skip.store(node->skip.load(kRelaxed), kRelaxed);
  for (int slot = from; slot < kSlots; ++slot) right->Set(slot - from, node->head(slot), node->entry(slot));
  if (!leaf) {
    for (int slot = from; slot <= kSlots; ++slot) {
      static_cast<Inner*>(right)->children[slot - from].store(node->child(slot), kRelaxed);
    }
  }
  right->count.store(kSlots - from, kRelaxed);
  node->count.store(keep, kRelease);
  ChooseSkip(node, known);
  node->EndChange();
  ChooseSkip(right, known);
  return up;
}

// Has heads begin later when they tell little apart; not later than what a reader knows anyway unless that tells
// little, too, for it would have to look at an entry.
void MemtableIndex::ChooseSkip(Node* node, size_t known) noexcept {
  const int count = node->count.load(kRelaxed);
  if (count < 2) return;
  const int same_bits = std::countl_zero(node->head(0) ^ node->head(count - 1));
  if (same_bits < static_cast<int>(kLooseSkipMax) * 8) return;
  size_t skip = SharedBytes(node->entry(0)->key().user_key(), node->entry(count - 1)->key().user_key());
  if (skip > known && skip <= known + kLooseSkipMax) skip = known;
  if (skip > node->skip.load(kRelaxed)) node->SetSkip(skip);
}

}  // namespace prefixdb
