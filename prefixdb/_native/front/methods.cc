#include "front/methods.h"

#include <array>

#include "front/method_list.h"

namespace prefixdb::front {
namespace {

constexpr std::string_view kService = "/prefixdb.v1.KeyValue/";

// In the order of NativeMethod. What each needs is what prefixdb/catalog/capabilities.py says.
constexpr std::array<NativeFacts, kNativeMethods> kFacts = {{
    {NativeMethod::kGet, Needs::kRead, "/prefixdb.v1.KeyValue/Get", false, false, BeginGet},
    {NativeMethod::kBatchGet, Needs::kRead, "/prefixdb.v1.KeyValue/BatchGet", false, false, BeginBatchGet},
    {NativeMethod::kPut, Needs::kWrite, "/prefixdb.v1.KeyValue/Put", false, false, BeginPut},
    {NativeMethod::kDelete, Needs::kWrite, "/prefixdb.v1.KeyValue/Delete", false, false, BeginDelete},
    {NativeMethod::kWrite, Needs::kEither, "/prefixdb.v1.KeyValue/Write", false, false, BeginWrite},
    {NativeMethod::kScan, Needs::kRead, "/prefixdb.v1.KeyValue/Scan", false, true, BeginScan},
    {NativeMethod::kCount, Needs::kRead, "/prefixdb.v1.KeyValue/Count", false, false, BeginCount},
    {NativeMethod::kPipeline, Needs::kEither, "/prefixdb.v1.KeyValue/Pipeline", true, true, BeginPipeline},
}};

// The one method that a name of this length and first letter can be.
constexpr std::optional<NativeMethod> Candidate(std::string_view name) noexcept {
  switch (name.size()) {
    case 3:
      return name[0] == 'G' ? NativeMethod::kGet : NativeMethod::kPut;
    case 4:
      return NativeMethod::kScan;
    case 5:
      return name[0] == 'W' ? NativeMethod::kWrite : NativeMethod::kCount;
    case 6:
      return NativeMethod::kDelete;
    case 8:
      return name[0] == 'B' ? NativeMethod::kBatchGet : NativeMethod::kPipeline;
    default:
      return std::nullopt;
  }
}

constexpr bool EachIsFound() {
  for (size_t index = 0; index < kFacts.size(); ++index) {
    const std::string_view path = kFacts[index].path;
    if (!path.starts_with(kService) || static_cast<size_t>(kFacts[index].method) != index) return false;
    const auto found = Candidate(path.substr(kService.size()));
    if (!found || *found != kFacts[index].method) return false;
  }
  return true;
}
static_assert(EachIsFound());

}  // namespace

const NativeFacts* FindNative(std::string_view path) noexcept {
  if (path.size() <= kService.size()) return nullptr;
  const auto candidate = Candidate(path.substr(kService.size()));
  if (!candidate) return nullptr;
  const NativeFacts& facts = FactsOf(*candidate);
  return path == facts.path ? &facts : nullptr;
}

const NativeFacts& FactsOf(NativeMethod method) noexcept { return kFacts[static_cast<size_t>(method)]; }

}  // namespace prefixdb::front
