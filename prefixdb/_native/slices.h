// RocksDB's name for borrowed bytes, and C++'s.
#pragma once

#include <rocksdb/slice.h>

#include <string_view>

namespace prefixdb {

inline rocksdb::Slice AsSlice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }
inline std::string_view AsView(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

}  // namespace prefixdb
