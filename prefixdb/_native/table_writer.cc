#include "table_writer.h"

#include <algorithm>

#include "key_codec.h"
#include "rows_reader.h"
#include "value_codec.h"

namespace prefixdb {

namespace {

rocksdb::Options FileOptions(rocksdb::Options options) {
  if (options.bottommost_compression != rocksdb::kDisableCompressionOption) {
    options.compression = options.bottommost_compression;
    options.compression_opts =
        options.bottommost_compression_opts.enabled ? options.bottommost_compression_opts : options.compression_opts;
  }
  // The writer would otherwise prefer the per-level list.
  options.compression_per_level.clear();
  return options;
}

}  // namespace

TableWriter::TableWriter(const rocksdb::Options& options)
    : options_(FileOptions(options)), writer_(rocksdb::EnvOptions(options_), options_) {}

Outcome TableWriter::Create(const rocksdb::Options& options, const std::string& path,
                            std::unique_ptr<TableWriter>* writer) {
  writer->reset(new TableWriter(options));
  Outcome outcome = Outcome::Of((*writer)->writer_.Open(path));
  if (!outcome.ok()) writer->reset();
  return outcome;
}

Outcome TableWriter::Add(std::string_view key, std::string_view payload, uint64_t version, uint64_t expires_at_ms) {
  if (finished_) return Outcome::Invalid("the file is finished");
  if (rows_ > 0 && key <= last_key_) return Outcome::Invalid("keys must ascend");
  EncodeValue(payload, version, expires_at_ms, &stored_);
  Outcome outcome = Outcome::Of(writer_.Put({key.data(), key.size()}, stored_));
  if (!outcome.ok()) return outcome;
  last_key_.assign(key);
  ++rows_;
  return {};
}

bool VersionRule::Map(uint64_t version, uint64_t* mapped) const noexcept {
  *mapped = kind == Kind::kNew ? 0 : version;
  if (version == 0 || kind != Kind::kRanked) return true;
  if (versions.empty() || firsts.size() != ends.size()) return false;
  const auto found = std::lower_bound(versions.begin(), versions.end(), version);
  const auto rank = std::min<uint64_t>(static_cast<uint64_t>(found - versions.begin()), versions.size() - 1);
  const auto block = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), rank) - ends.begin());
  if (block == ends.size()) return false;
  *mapped = firsts[block] + rank - (block == 0 ? 0 : ends[block - 1]);
  return *mapped != 0;
}

Outcome TableWriter::CheckFrame(std::string_view content, const FrameTarget& target, std::string* key,
                                FrameAdded* added) {
  std::optional<RowsReader> reader = RowsReader::Of(content);
  if (!reader) return {};
  const std::optional<std::string> example = EncodeDataKey(target.namespace_id, reader->database(), "x");
  if (!example) return Outcome::Invalid("not a namespace");
  key->assign(*example, 0, example->size() - 1);
  const size_t head = key->size();
  added->last_key.assign(target.after);
  FrameRow row;
  for (uint32_t index = 0; index < reader->rows(); ++index) {
    if (!reader->Next(&row)) return {};
    key->resize(head);
    key->append(row.key);
    // The first key may be the span's very begin, so "above the last" begins after the first row.
    if (*key < target.begin || *key >= target.end || (!added->last_key.empty() && *key <= added->last_key)) {
      return Outcome::Invalid("a key outside the span or not above the one before");
    }
    uint64_t version = 0;
    if (!target.versions.Map(row.version, &version) || version >= target.version) {
      return Outcome::Invalid("a version of no earlier commit");
    }
    added->last_key.swap(*key);
    key->assign(added->last_key, 0, head);
  }
  added->taken = reader->AtEnd();
  return {};
}

Outcome TableWriter::AddFrame(std::string_view content, const FrameTarget& target, FrameAdded* added) {
  std::string key;
  *added = {};
  Outcome outcome = CheckFrame(content, target, &key, added);
  if (!outcome.ok() || !added->taken) return outcome;
  const size_t head = key.size();
  std::optional<RowsReader> reader = RowsReader::Of(content);
  FrameRow row;
  while (reader && !reader->AtEnd() && reader->Next(&row)) {
    if (row.expires_at_ms != 0 && row.expires_at_ms <= target.now_ms) continue;
    uint64_t version = 0;
    target.versions.Map(row.version, &version);
    key.resize(head);
    key.append(row.key);
    outcome = Add(key, row.value, version != 0 ? version : target.version, row.expires_at_ms);
    if (!outcome.ok()) return outcome;
    ++added->rows;
    added->bytes += key.size() + row.value.size();
  }
  return {};
}

Outcome TableWriter::Finish(uint64_t* bytes) {
  if (finished_) return Outcome::Invalid("the file is finished");
  finished_ = true;
  rocksdb::ExternalSstFileInfo info;
  Outcome outcome = Outcome::Of(writer_.Finish(&info));
  *bytes = info.file_size;
  return outcome;
}

}  // namespace prefixdb
