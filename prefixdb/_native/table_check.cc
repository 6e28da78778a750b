#include "table_check.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string_view>
#include <vector>

namespace prefixdb {

namespace {

constexpr size_t kReadaheadBytes = 2u << 20;

// Without a cache of its own each reader would make one of RocksDB's default size.
rocksdb::Options ReaderOptions() {
  rocksdb::BlockBasedTableOptions table;
  table.no_block_cache = true;
  rocksdb::Options options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

Outcome Damaged(const std::string& what) { return Outcome::Of(rocksdb::Status::Corruption(what)); }

bool ReadFile(const std::string& path, std::string* content) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  content->assign(std::istreambuf_iterator<char>(file), {});
  return !file.bad();
}

// RocksDB's log format: blocks of 32 KiB, in them records of a checksum, a length, a type and content; no record
// crosses a block's end. A reader takes a record that seems to go beyond the file's end for one that was never
// finished, and says nothing; so the lengths are looked at here.
bool RecordsEndWithFile(std::string_view log) {
  constexpr size_t kBlockBytes = 32u << 10;
  constexpr size_t kHeaderBytes = 7;
  while (!log.empty()) {
    std::string_view block = log.substr(0, std::min(log.size(), kBlockBytes));
    log.remove_prefix(block.size());
    const bool last = log.empty();
    while (block.size() >= kHeaderBytes) {
      const size_t length = static_cast<unsigned char>(block[4]) | static_cast<unsigned char>(block[5]) << 8;
      // Types of logs that are written over old ones have no place in a MANIFEST; a reader stops at them in silence.
      if (block[6] < 1 || block[6] > 4 || kHeaderBytes + length > block.size()) return false;
      block.remove_prefix(kHeaderBytes + length);
    }
    // What is too short for a header fills a block up, and nothing follows the last record.
    if (last && !block.empty()) return false;
  }
  return true;
}

}  // namespace

Outcome CheckTable(const std::string& path) {
  rocksdb::SstFileReader reader(ReaderOptions());
  Outcome opened = Outcome::Of(reader.Open(path));
  if (!opened.ok()) return opened;
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  options.readahead_size = kReadaheadBytes;
  return Outcome::Of(reader.VerifyChecksum(options));
}

Outcome CheckManifest(const std::string& directory) {
  // It lists the column families by reading every record; the tables are not touched.
  std::vector<std::string> families;
  Outcome read = Outcome::Of(rocksdb::DB::ListColumnFamilies(rocksdb::DBOptions(), directory, &families));
  if (!read.ok()) return read;
  std::string name, records;
  if (!ReadFile(directory + "/CURRENT", &name) || name.empty()) return Damaged("CURRENT cannot be read");
  name.pop_back();
  if (!ReadFile(directory + "/" + name, &records)) return Damaged("the MANIFEST cannot be read");
  return RecordsEndWithFile(records) ? Outcome() : Damaged("the MANIFEST has a record that does not fit");
}

}  // namespace prefixdb
