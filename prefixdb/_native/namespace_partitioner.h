// Cuts compaction outputs at namespace boundaries once the file has a quarter of its target size.
//
// A large namespace then owns whole files, which DeleteFilesInRange drops without reading them; tiny namespaces share
// files, so that thousands of them do not make thousands of files.
#pragma once

#include <rocksdb/sst_partitioner.h>

#include <cstdint>
#include <memory>

namespace prefixdb {

// `file_bytes_min`: a boundary cuts only when the output file is at least so large.
std::shared_ptr<rocksdb::SstPartitionerFactory> NewNamespacePartitionerFactory(uint64_t file_bytes_min);

}  // namespace prefixdb
