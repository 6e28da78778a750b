#include "front/connection.h"

#include "front/gateway.h"
#include "front/methods.h"

namespace prefixdb::front {

std::unique_ptr<Gateway> Gateway::Make(Loop* loop, Services* services) {
  const Bounds& bounds = services->settings.bounds;
  Limits limits;
  limits.arrival = bounds.arrival;
  limits.slow_reader = bounds.slow_reader;
  limits.pipeline_idle = bounds.pipeline_idle;
  return std::make_unique<GatewayParts>(loop, services, limits, FindNative,
                                        Upstream::Make(loop, services->settings.upstream_path));
}

}  // namespace prefixdb::front
