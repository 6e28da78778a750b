#include "ban_filter.h"

#include <new>
#include <utility>

#include "big_endian.h"
#include "key_codec.h"
#include "value_codec.h"

namespace prefixdb {

namespace {

// One compaction's filter. Not thread-safe: RocksDB uses it from the one thread that writes the outputs. It allocates
// nothing: `skip_until` gets 8 bytes, which every std::string holds in itself.
class BanFilter final : public rocksdb::CompactionFilter {
 public:
  BanFilter(std::shared_ptr<const BannedSet> banned, uint64_t expiry_horizon_ms,
            std::shared_ptr<FilterCounts> counts) noexcept
      : banned_(std::move(banned)), expiry_horizon_ms_(expiry_horizon_ms), counts_(std::move(counts)) {}
  BanFilter(const BanFilter&) = delete;
  BanFilter& operator=(const BanFilter&) = delete;

  // Added up once, so that rows cost no atomic operation.
  ~BanFilter() override {
    counts_->malformed_kept.fetch_add(malformed_kept_, std::memory_order_relaxed);
    counts_->expired_dropped.fetch_add(expired_dropped_, std::memory_order_relaxed);
    counts_->namespaces_skipped.fetch_add(namespaces_skipped_, std::memory_order_relaxed);
  }

  const char* Name() const override { return "prefixdb.BanFilter"; }

  Decision FilterV2(int /*level*/, const rocksdb::Slice& key, ValueType value_type, const rocksdb::Slice& stored,
                    std::string* /*new_value*/, std::string* skip_until) const override {
    if (value_type != ValueType::kValue || key.size() < kNamespaceBytes) return KeepMalformed();
    const uint64_t namespace_id = ReadU64(key.data());
    if (namespace_id != last_namespace_id_) Judge(namespace_id);
    if (last_is_banned_) {
      ++namespaces_skipped_;
      char next[kNamespaceBytes];
      WriteU64(namespace_id + 1, next);  // Exists: 2^64-1 is never published.
      skip_until->assign(next, sizeof next);
      return Decision::kRemoveAndSkipUntil;
    }
    const std::optional<StoredValue> value = DecodeValue({stored.data(), stored.size()});
    if (!value) return KeepMalformed();
    if (!value->ExpiredAt(expiry_horizon_ms_)) return Decision::kKeep;
    ++expired_dropped_;
    // Not a skip: the tombstone that this leaves above the bottommost level keeps older versions hidden.
    return Decision::kRemove;
  }

 private:
  // Rows come in key order, so a whole namespace needs one look into the set.
  void Judge(uint64_t namespace_id) const noexcept {
    last_namespace_id_ = namespace_id;
    last_is_banned_ = banned_->Contains(namespace_id);
  }

  Decision KeepMalformed() const noexcept {
    ++malformed_kept_;
    return Decision::kKeep;
  }

  const std::shared_ptr<const BannedSet> banned_;
  const uint64_t expiry_horizon_ms_;
  const std::shared_ptr<FilterCounts> counts_;

  mutable uint64_t last_namespace_id_ = 0;  // Namespace 0 is never published, so its verdict is known.
  mutable bool last_is_banned_ = false;
  mutable uint64_t malformed_kept_ = 0;
  mutable uint64_t expired_dropped_ = 0;
  mutable uint64_t namespaces_skipped_ = 0;
};

}  // namespace

BanFilterFactory::BanFilterFactory(std::shared_ptr<const Bans> bans, std::shared_ptr<FilterCounts> counts)
    : bans_(std::move(bans)), counts_(std::move(counts)) {}

std::unique_ptr<rocksdb::CompactionFilter> BanFilterFactory::CreateCompactionFilter(
    const rocksdb::CompactionFilter::Context& context) {
  if (context.reason != rocksdb::TableFileCreationReason::kCompaction) return nullptr;
  // Without memory for a filter the compaction runs unfiltered: everything is kept.
  return std::unique_ptr<rocksdb::CompactionFilter>(
      new (std::nothrow) BanFilter(bans_->Current(), bans_->expiry_horizon_ms(), counts_));
}

}  // namespace prefixdb
