#include "front/services.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "front/admission.h"
#include "front/facts.h"

namespace prefixdb::front {
namespace {

// Tokens that wait for Python at once: as many as all connections may ask about (4,096 of them, admission.h), so that a
// flood of made-up tokens makes others wait for their turn and refuses nobody. Some 36 MiB when all are of the longest.
constexpr size_t kAdmissionsWaitingMax = Admission::kQuestionsMax * 4096;

// Threads for what may wait for the disk: a few even on a small machine, for they sleep more than they compute.
int WorkerThreads() {
  constexpr unsigned kFewest = 4;
  constexpr unsigned kMost = 16;
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), kFewest, kMost));
}

}  // namespace

Services::Services(Settings wanted, uint64_t clock_floor_ms, std::function<void()> settle)
    : settings(std::move(wanted)),
      clock(clock_floor_ms),
      changes(std::move(settle)),
      sessions(kSessionsCachedMax, kSessionRuleBytesMax),
      upcalls(&changes, &sessions, kAdmissionsWaitingMax),
      streams(settings.bounds.streams_per_namespace, settings.bounds.streams),
      unread(settings.bounds.unread_bytes_per_namespace, settings.bounds.unread_bytes),
      workers(WorkerThreads()) {}

}  // namespace prefixdb::front
