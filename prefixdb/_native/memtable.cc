#include "memtable.h"

#include <new>

#include "memtable_list.h"

namespace prefixdb {

namespace {

using rocksdb::MemTableRep;
using rocksdb::Slice;

InternalKey KeyOf(const Slice& bytes) { return InternalKey({bytes.data(), bytes.size()}); }

class ListIterator : public MemTableRep::Iterator {
 public:
  explicit ListIterator(const MemtableList* list) : list_(list) {}

  bool Valid() const override { return entry_ != nullptr; }
  const char* key() const override { return entry_->bytes(); }
  void Next() override { entry_ = entry_->next.load(std::memory_order_acquire); }
  void Prev() override { entry_ = list_->Before(entry_->key()); }
  void Seek(const Slice& key, const char*) override { entry_ = list_->AtOrAfter(KeyOf(key)); }
  void SeekForPrev(const Slice& key, const char*) override { entry_ = list_->AtOrBefore(KeyOf(key)); }
  void SeekToFirst() override { entry_ = list_->First(); }
  void SeekToLast() override { entry_ = list_->Last(); }

 private:
  const MemtableList* list_;
  const Entry* entry_ = nullptr;
};

// What a look-up walks with. RocksDB's MemTableRep::Get asks for it without an arena and does not delete it; should
// another version do so, nothing happens.
class LookupIterator final : public ListIterator {
 public:
  using ListIterator::ListIterator;
  static void operator delete(void*) {}
};

// Takes memory from allocators, whose classes the public headers only name: through the one thing in them that does.
class Taker final : public MemTableRep {
 public:
  explicit Taker(rocksdb::Allocator* allocator) : MemTableRep(allocator) {}
  // An arena is an allocator first of all, which the public headers do not say either.
  explicit Taker(rocksdb::Arena* arena) : MemTableRep(reinterpret_cast<rocksdb::Allocator*>(arena)) {}

  void* Take(size_t bytes, size_t alignment) {
    char* memory;
    Allocate(bytes + alignment - 1, &memory);
    return memory + (-reinterpret_cast<uintptr_t>(memory) & (alignment - 1));
  }

 private:
  void Insert(rocksdb::KeyHandle) override {}
  bool Contains(const char*) const override { return false; }
  size_t ApproximateMemoryUsage() override { return 0; }
  Iterator* GetIterator(rocksdb::Arena*) override { return nullptr; }
};

class Memtable final : public MemTableRep {
 public:
  explicit Memtable(rocksdb::Allocator* allocator)
      : MemTableRep(allocator),
        taker_(allocator),
        list_([this](size_t bytes) { return taker_.Take(bytes, MemtableIndex::kAlign); }) {}

  rocksdb::KeyHandle Allocate(const size_t bytes, char** buffer) override {
    auto* entry = new (taker_.Take(sizeof(Entry) + bytes, alignof(Entry))) Entry;
    *buffer = entry->bytes();
    return entry;
  }
  void Insert(rocksdb::KeyHandle handle) override { InsertKey(handle); }
  bool InsertKey(rocksdb::KeyHandle handle) override { return list_.Insert(static_cast<Entry*>(handle)); }

  bool Contains(const char* bytes) const override {
    const InternalKey key = InternalKey::OfEntry(bytes);
    const Entry* found = list_.AtOrAfter(key);
    return found != nullptr && found->key().Compare(key) == 0;
  }
  uint64_t ApproximateNumEntries(const Slice& begin, const Slice& end) override {
    const uint64_t first = list_.CountBefore(KeyOf(begin));
    const uint64_t last = list_.CountBefore(KeyOf(end));
    return last > first ? last - first : 0;
  }
  size_t ApproximateMemoryUsage() override { return 0; }  // Besides what the allocator gave, which RocksDB counts.

  Iterator* GetIterator(rocksdb::Arena* arena) override {
    if (arena == nullptr) return new ListIterator(&list_);
    return new (Taker(arena).Take(sizeof(ListIterator), alignof(ListIterator))) ListIterator(&list_);
  }
  Iterator* GetDynamicPrefixIterator(rocksdb::Arena* arena) override {
    if (arena != nullptr) return GetIterator(arena);
    alignas(LookupIterator) thread_local char memory[sizeof(LookupIterator)];
    return new (memory) LookupIterator(&list_);
  }

 private:
  Taker taker_;
  MemtableList list_;
};

class MemtableFactory final : public rocksdb::MemTableRepFactory {
 public:
  using MemTableRepFactory::CreateMemTableRep;
  MemTableRep* CreateMemTableRep(const MemTableRep::KeyComparator&, rocksdb::Allocator* allocator,
                                 const rocksdb::SliceTransform*, rocksdb::Logger*) override {
    return new Memtable(allocator);
  }
  const char* Name() const override { return "prefixdb.Memtable"; }
  bool CanHandleDuplicatedKey() const override { return true; }
};

}  // namespace

std::shared_ptr<rocksdb::MemTableRepFactory> NewMemtableFactory() { return std::make_shared<MemtableFactory>(); }

}  // namespace prefixdb
