// The methods that the front answers itself. Everything else, and every path it does not know, is forwarded.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "front/call.h"
#include "front/metrics.h"

namespace prefixdb::front {

// What a session needs to call a method at all, as in prefixdb/catalog/capabilities.py; checked by the transport when
// the message is there, before the method is begun: NOT_PERMITTED.
enum class Needs : uint8_t { kRead, kWrite, kEither };

struct NativeFacts {
  NativeMethod method;
  Needs needs;
  std::string_view path;  // "/prefixdb.v1.KeyValue/Get"
  bool client_streams;
  bool server_streams;
  // Unary: answers `call.message()` now, or returns what will; null when it is answered, or will be by something that
  // holds a weak pointer to the call.
  // Server-streaming: as unary. Client-streaming: called when the call is admitted, before any message.
  std::unique_ptr<Method> (*begin)(Call& call);
};

// Null for a path that is not native.
const NativeFacts* FindNative(std::string_view path) noexcept;
const NativeFacts& FactsOf(NativeMethod method) noexcept;

}  // namespace prefixdb::front
