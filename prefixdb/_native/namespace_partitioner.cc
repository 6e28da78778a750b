#include "namespace_partitioner.h"

#include <cstring>

#include "key_codec.h"

namespace prefixdb {

namespace {

bool SameNamespace(const rocksdb::Slice& one, const rocksdb::Slice& two) noexcept {
  // A key too short to have a namespace belongs to its neighbour: nothing is gained by a file of its own.
  if (one.size() < kNamespaceBytes || two.size() < kNamespaceBytes) return true;
  return std::memcmp(one.data(), two.data(), kNamespaceBytes) == 0;
}

// Used by one compaction in one thread; without state of its own.
class NamespacePartitioner final : public rocksdb::SstPartitioner {
 public:
  explicit NamespacePartitioner(uint64_t file_bytes_min) : file_bytes_min_(file_bytes_min) {}

  const char* Name() const override { return "prefixdb.NamespacePartitioner"; }

  // The size goes first: it is at hand, and most rows end there.
  rocksdb::PartitionerResult ShouldPartition(const rocksdb::PartitionerRequest& request) override {
    if (request.current_output_file_size < file_bytes_min_) return rocksdb::kNotRequired;
    return SameNamespace(*request.prev_user_key, *request.current_user_key) ? rocksdb::kNotRequired
                                                                            : rocksdb::kRequired;
  }

  // Always: see the header.
  bool CanDoTrivialMove(const rocksdb::Slice& /*smallest*/, const rocksdb::Slice& /*largest*/) override { return true; }

 private:
  const uint64_t file_bytes_min_;
};

class NamespacePartitionerFactory final : public rocksdb::SstPartitionerFactory {
 public:
  explicit NamespacePartitionerFactory(uint64_t file_bytes_min) : file_bytes_min_(file_bytes_min) {}

  const char* Name() const override { return "prefixdb.NamespacePartitionerFactory"; }

  std::unique_ptr<rocksdb::SstPartitioner> CreatePartitioner(
      const rocksdb::SstPartitioner::Context& /*context*/) const override {
    return std::make_unique<NamespacePartitioner>(file_bytes_min_);
  }

 private:
  const uint64_t file_bytes_min_;
};

}  // namespace

std::shared_ptr<rocksdb::SstPartitionerFactory> NewNamespacePartitionerFactory(uint64_t file_bytes_min) {
  return std::make_shared<NamespacePartitionerFactory>(file_bytes_min);
}

}  // namespace prefixdb
