// What the measuring programs share: ending with a text, `--name value` arguments, clocks.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace bench {

[[noreturn]] void Fail(const std::string& text);

// Arguments `--name value`; a name that is not in `known` ends the process.
class Arguments {
 public:
  Arguments(int count, char** texts, const std::map<std::string, std::string>& known_with_defaults);

  const std::string& Text(const std::string& name) const;
  double Number(const std::string& name) const;
  size_t Size(const std::string& name) const { return static_cast<size_t>(Number(name)); }

 private:
  std::map<std::string, std::string> values_;
};

uint64_t NowNs();
// Seconds of processor time of this process, user and system.
double CpuSeconds();
// Resident memory of this process.
uint64_t ResidentBytes();

}  // namespace bench
