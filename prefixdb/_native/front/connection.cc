#include "front/connection.h"

#include "front/gateway.h"
#include "front/methods.h"

namespace prefixdb::front {

std::unique_ptr<Gateway> Gateway::Make(Loop* loop, Services* services) {
  return std::make_unique<GatewayParts>(loop, services, Limits(), FindNative,
                                        Upstream::Make(loop, services->settings.upstream_path));
}

}  // namespace prefixdb::front
