// What a fuzz target defines, and what it may use.
//
// A target is one file fuzz_<what>.cc that defines `FuzzOne` and nothing else of ours. It is built two ways:
//
//   BUILD=fuzz               with clang's libFuzzer, which looks for new inputs by itself:
//                                make -C tests/native BUILD=fuzz build/fuzz/fuzz_tls
//                                tests/native/build/fuzz/fuzz_tls -max_total_time=60 NEW_INPUTS tests/native/corpus/tls
//   BUILD=plain, asan, tsan  with fuzz_main.cc and any compiler: runs each input of corpus/<what> as it is, then some
//                            thousand that are put together of them at random. `make check` does that; files or
//                            directories as arguments are run as they are (a crash that libFuzzer has left, say).
//
// An input that has once broken something stays in corpus/<what>, under a name that says what.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <span>
#include <string>
#include <string_view>

// One input, from the beginning: what it leaves behind must not be seen by the next. Returns, or ends the process.
void FuzzOne(std::span<const uint8_t> input);

namespace prefixdb::test {

// Says what is wrong and ends the process, so that a fuzzer keeps the input.
inline void Insist(bool right, std::string_view what) {
  if (right) return;
  std::cerr << "not so: " << what << std::endl;
  std::abort();
}

// Takes an input apart: decisions from its front, bytes from the rest. Nothing is left: zeros.
class Decisions {
 public:
  explicit Decisions(std::span<const uint8_t> input) : left_(input) {}

  bool empty() const noexcept { return left_.empty(); }
  uint8_t Byte() noexcept {
    if (left_.empty()) return 0;
    const uint8_t byte = left_.front();
    left_ = left_.subspan(1);
    return byte;
  }
  // Below `bound`, which is at most 256.
  size_t Below(size_t bound) noexcept { return Byte() % bound; }
  // Up to `most` bytes, of a length that is in the input, too.
  std::span<const uint8_t> Bytes(size_t most) noexcept {
    size_t count = Byte();
    if (count >= 128) count = (count - 128) * 256 + Byte();
    count = count < most ? count : most;
    count = count < left_.size() ? count : left_.size();
    const auto taken = left_.first(count);
    left_ = left_.subspan(count);
    return taken;
  }
  std::span<const uint8_t> Rest() noexcept {
    const auto rest = left_;
    left_ = {};
    return rest;
  }

 private:
  std::span<const uint8_t> left_;
};

}  // namespace prefixdb::test
