#include "program.h"

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace bench {

namespace {

rusage Usage() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage;
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

void Fail(const std::string& text) {
  std::fprintf(stderr, "%s\n", text.c_str());
  std::exit(1);
}

Arguments::Arguments(int count, char** texts, const std::map<std::string, std::string>& known_with_defaults)
    : values_(known_with_defaults) {
  for (int index = 1; index < count; index += 2) {
    const std::string text = texts[index];
    const std::string name = text.starts_with("--") ? text.substr(2) : "";
    if (!values_.contains(name) || index + 1 >= count) Fail("not an argument, or one without its value: " + text);
    values_[name] = texts[index + 1];
  }
}

const std::string& Arguments::Text(const std::string& name) const { return values_.at(name); }

double Arguments::Number(const std::string& name) const {
  const std::string& text = Text(name);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0') Fail("--" + name + " takes a number");
  return value;
}

uint64_t NowNs() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
}

double CpuSeconds() {
  const rusage usage = Usage();
  return Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
}

// Not the peak: getrusage's is inherited from whoever started the program.
uint64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t pages = 0;
  uint64_t resident = 0;
  if (!(file >> pages >> resident)) Fail("cannot read /proc/self/statm");
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace bench
