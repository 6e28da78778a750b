#include "table_writer.h"

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

Outcome TableWriter::Finish(uint64_t* bytes) {
  if (finished_) return Outcome::Invalid("the file is finished");
  finished_ = true;
  rocksdb::ExternalSstFileInfo info;
  Outcome outcome = Outcome::Of(writer_.Finish(&info));
  *bytes = info.file_size;
  return outcome;
}

}  // namespace prefixdb
