// Cuts compaction outputs at namespace boundaries once the file has a quarter of its target size.
//
// A large namespace then owns whole files, which DeleteFilesInRange drops without reading them; tiny namespaces share
// files, so that thousands of them do not make thousands of files.
//
// Moving a file to the next level unread (a trivial move) is always allowed. RocksDB asks with the file's first and
// last key only, which do not tell whether a boundary between them would be worth a cut; refusing would rewrite every
// file that tiny namespaces share once per level. What it costs to allow: a namespace that was loaded in key order may
// share its first and last file, at most two per level, which a reclaim then rewrites instead of dropping.
//
// A cut parts different namespaces only: never two versions of one key, and no range tombstone reaches across it,
// because none is ever written beyond its namespace.
#pragma once

#include <rocksdb/sst_partitioner.h>

#include <cstdint>
#include <memory>

namespace prefixdb {

// `file_bytes_min`: a boundary cuts only when the output file is at least so large.
std::shared_ptr<rocksdb::SstPartitionerFactory> NewNamespacePartitionerFactory(uint64_t file_bytes_min);

}  // namespace prefixdb
