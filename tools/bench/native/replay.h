// What a run sends: messages made beforehand, and the order in which they are drawn.
//
//   replay file := "PFXREPL1" | count u32 | (size u32 | bytes)*count | draws u32 | (index u32)*draws      little-endian
//
// Keys, values and their distribution are made in Python (tools/bench/page/keys.py), so that every server gets the very
// same sequence and this program spends no time on chance.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bench {

struct Replay {
  std::vector<std::string> messages;
  std::vector<uint32_t> draws;  // Each names a message; never empty.

  // Ends the process with a text when the file is not one.
  static Replay Load(const std::string& path);

  const std::string& Draw(size_t position) const { return messages[draws[position % draws.size()]]; }
};

}  // namespace bench
