// Where in a memtable's list of entries to look for a key: a B+ tree written by one thread and read by any number
// without a lock.
//
// It only has to be near: the list is the truth, and who looks something up walks it from the entry that was found here
// (memtable_list.h). So a reader need not see a split and its parent at one moment; all it needs is that one node it
// reads is of one moment, which the node's version tells.
//
// A node does not keep keys but heads of them, the 8 bytes after those that all keys of the node share, so that a
// search reads a few neighbouring cache lines; the entries themselves lie all over memory, and each costs a miss.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>

#include "memtable_entry.h"

namespace prefixdb {

class MemtableIndex {
 public:
  // Returns memory aligned to kAlign that lives as long as the index. May throw std::bad_alloc.
  using Memory = std::function<void*(size_t bytes)>;
  static constexpr size_t kAlign = 64;  // A cache line.

  explicit MemtableIndex(Memory memory);
  MemtableIndex(const MemtableIndex&) = delete;
  MemtableIndex& operator=(const MemtableIndex&) = delete;

  // The last entry less than the key, or equal when `or_equal`; null when there is none. Any thread. An entry whose
  // insertion, or whose node's split, is under way may be passed over in favour of one before it.
  Entry* LastBefore(const InternalKey& key, bool or_equal) const noexcept;

  // About which share of the entries is less than the key, 0 to 1; exact while there are at most 32. Any thread.
  double ShareBefore(const InternalKey& key) const noexcept;

  struct Way;
  // For the writer: where an entry of this key belongs, and the memory that needs; throws what Memory throws.
  Way Prepare(const InternalKey& key) const;
  // REQUIRES: `way` is of the entry's key and nothing was inserted since; the index has no equal entry.
  void Insert(const Way& way, Entry* entry) noexcept;

 private:
  static constexpr int kSlots = 32;
  // An insertion into one level is a sixteenth of one into the next, so that 16^16 entries would have to come.
  static constexpr int kLevelsMax = 16;

  struct Node;
  struct Inner;
  struct Place;

  // A node on the way down, where in it the way goes on, and how many first bytes the key and all its entries are known
  // to have in common.
  struct Step {
    Node* node;
    int slot;
    size_t known;
  };

  static Place Search(const Node& node, const InternalKey& key, bool or_equal, size_t known) noexcept;
  static void Add(Node* node, const Place& at, Entry* first, Node* child) noexcept;
  static Entry* Split(Node* node, Node* right, int keep, size_t known) noexcept;
  static void ChooseSkip(Node* node, size_t known) noexcept;
  Node* NewNode(int level) const;

  const Memory memory_;
  std::atomic<Node*> root_;
};

struct MemtableIndex::Way {
  Entry* before = nullptr;  // The last entry less or equal; null when there is none.

 private:
  friend class MemtableIndex;

  int leaf = 0;  // The last of the steps.
  Step steps[kLevelsMax];
  Node* right[kLevelsMax];  // For each full node, from the leaf up, the one to share its entries with.
  Node* root = nullptr;     // When the root is among them.
};

}  // namespace prefixdb
