#include "front/store_failure.h"

#include <string>

#include "front/off_loop.h"

namespace prefixdb::front {

void FailWith(Call& call, NativeMethod method, Doing doing, const Outcome& outcome) {
  if (outcome.fault == Fault::kSpanViolation) Halt(call.services(), method);
  call.services().upcalls.Translate(&call.loop(), {doing, outcome},
                                    WhileOpen(call, [method](Call& waiting, const Failure& failure) {
                                      if (failure.reason == static_cast<uint16_t>(Reason::kInternal)) {
                                        Halt(waiting.services(), method);
                                      }
                                      waiting.Fail(failure);
                                    }));
}

void Halt(Services& services, NativeMethod method) {
  if (!services.halted.exchange(true)) services.upcalls.Halt({std::string(FactsOf(method).path)});
}

}  // namespace prefixdb::front
