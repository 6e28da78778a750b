// The memtable of our databases, in place of RocksDB's skip list.
//
// More than half of the processor time of a writing server went into that list: it looks at some twenty entries for
// each it inserts, nearly every one a cache miss, and Debian builds RocksDB with its assertions, which compare every
// key three times. This one looks at two or three (memtable_index.h).
//
// REQUIRES: the bytewise comparator, no user-defined timestamps, and Options::allow_concurrent_memtable_write off.
#pragma once

#include <rocksdb/memtablerep.h>

#include <memory>

namespace prefixdb {

std::shared_ptr<rocksdb::MemTableRepFactory> NewMemtableFactory();

}  // namespace prefixdb
