// What a call says when the store has failed: Python knows which error that is (upcalls.h).
#pragma once

#include "front/call.h"
#include "front/methods.h"
#include "outcome.h"

namespace prefixdb::front {

// Ends the call with the error that the outcome is. One that means that answers cannot be trusted any more (a row of
// another namespace, a failure nobody foresaw) stops serving, as in prefixdb/service/gate.py.
// REQUIRES: the outcome is not ok.
void FailWith(Call& call, NativeMethod method, Doing doing, const Outcome& outcome);

// Stops serving: no row is sent any more, and Python stops, too.
void Halt(Services& services, NativeMethod method);

}  // namespace prefixdb::front
