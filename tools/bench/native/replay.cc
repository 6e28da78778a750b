#include "replay.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>

#include "program.h"

namespace bench {

namespace {

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  std::string_view Take(size_t size) {
    if (size > rest_.size()) Fail("the replay file is cut short");
    const auto taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  uint32_t TakeU32() {
    uint32_t value = 0;
    std::memcpy(&value, Take(sizeof(value)).data(), sizeof(value));
    return value;
  }

 private:
  std::string_view rest_;
};

}  // namespace

Replay Replay::Load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) Fail("cannot read " + path);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  Reader reader(bytes);
  if (reader.Take(8) != "PFXREPL1") Fail(path + " is no replay file");
  Replay replay;
  replay.messages.resize(reader.TakeU32());
  for (std::string& message : replay.messages) message = std::string(reader.Take(reader.TakeU32()));
  replay.draws.resize(reader.TakeU32());
  for (uint32_t& draw : replay.draws) {
    draw = reader.TakeU32();
    if (draw >= replay.messages.size()) Fail("a draw names no message");
  }
  if (replay.draws.empty()) Fail(path + " draws nothing");
  return replay;
}

}  // namespace bench
