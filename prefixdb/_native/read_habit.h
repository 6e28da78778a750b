// Whether a point read should ask memory first, by how the last ones went.
//
// A read from memory is over before letting go of the interpreter's lock, or handing it to another thread, would be;
// one that needs the disk must be let go of. Which of the two it is only RocksDB can say, and asking twice costs a disk
// read a twentieth of its time. So after a run of misses reads go to the disk at once, and one in a while looks whether
// memory has become warm.
//
// Not thread-safe: Python's is guarded by the interpreter's lock, and each loop of the front has its own.
#pragma once

#include <cstdint>

namespace prefixdb {

class ReadHabit {
 public:
  bool AsksMemory() noexcept { return misses_ < kMissesMax || ++skipped_ % kLookAgainEvery == 0; }
  void Note(bool answered) noexcept {
    if (answered) {
      misses_ = 0;
    } else if (misses_ < kMissesMax) {
      ++misses_;
    }
  }

 private:
  static constexpr uint32_t kMissesMax = 16;
  static constexpr uint32_t kLookAgainEvery = 16;

  uint32_t misses_ = 0;
  uint32_t skipped_ = 0;
};

}  // namespace prefixdb
