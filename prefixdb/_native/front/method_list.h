// How each native method begins; methods.h says what that means.
#pragma once

#include <memory>

#include "front/call.h"

namespace prefixdb::front {

std::unique_ptr<Method> BeginGet(Call& call);
std::unique_ptr<Method> BeginBatchGet(Call& call);
std::unique_ptr<Method> BeginPut(Call& call);
std::unique_ptr<Method> BeginDelete(Call& call);
std::unique_ptr<Method> BeginWrite(Call& call);
std::unique_ptr<Method> BeginScan(Call& call);
std::unique_ptr<Method> BeginCount(Call& call);
std::unique_ptr<Method> BeginPipeline(Call& call);

}  // namespace prefixdb::front
