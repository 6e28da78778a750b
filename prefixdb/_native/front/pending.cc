// Methods that are not written yet. This file goes with the last of them.
#include "front/method_list.h"

namespace prefixdb::front {

std::unique_ptr<Method> BeginBatchGet(Call& call) {
  call.Punt();
  return nullptr;
}
std::unique_ptr<Method> BeginCount(Call& call) {
  call.Punt();
  return nullptr;
}
std::unique_ptr<Method> BeginScan(Call& call) {
  call.Fail(Fail(Reason::kMethodUnknown));
  return nullptr;
}
std::unique_ptr<Method> BeginPipeline(Call& call) {
  call.Fail(Fail(Reason::kMethodUnknown));
  return nullptr;
}

}  // namespace prefixdb::front
