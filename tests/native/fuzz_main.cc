// Runs a fuzz target without a fuzzer; see fuzz.h.
//
//   fuzz_<what> [--random=N] [FILE or DIRECTORY]...
//
// Random inputs are pieces of the given ones, cut, joined and with bytes changed. PREFIXDB_SEED=number repeats a run;
// the input that a process dies of is in the file fuzz-last-input.<pid> of the temporary directory, which is removed
// when it lives.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "fuzz.h"

namespace {

namespace fs = std::filesystem;
using Input = std::vector<uint8_t>;

constexpr size_t kInputBytesMax = 64 << 10;

uint64_t Seed() {
  const char* wanted = std::getenv("PREFIXDB_SEED");
  const uint64_t seed = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : std::random_device()();
  std::cout << "PREFIXDB_SEED=" << seed << std::endl;
  return seed;
}

Input ReadInput(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot be read: " + path.string());
  return Input(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

std::vector<Input> Gather(const std::vector<fs::path>& paths) {
  std::vector<fs::path> files;
  for (const fs::path& path : paths) {
    if (!fs::is_directory(path)) {
      files.push_back(path);
      continue;
    }
    for (const auto& entry : fs::directory_iterator(path)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<Input> inputs;
  for (const fs::path& file : files) inputs.push_back(ReadInput(file));
  return inputs;
}

class Mixer {
 public:
  Mixer(const std::vector<Input>& inputs, uint64_t seed) : inputs_(inputs), random_(seed) {}

  Input Next() {
    Input made;
    for (size_t piece = Below(4) + 1; piece > 0; --piece) {
      const Input part = Piece();
      made.insert(made.end(), part.begin(), part.end());
    }
    for (size_t change = Below(8); change > 0 && !made.empty(); --change) {
      made[Below(made.size())] = Below(3) == 0 ? uint8_t{0xff} : static_cast<uint8_t>(Below(256));
    }
    made.resize(std::min(made.size(), kInputBytesMax));
    return made;
  }

 private:
  size_t Below(size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random_); }

  Input Piece() {
    if (inputs_.empty() || Below(5) == 0) {
      Input noise(Below(64));
      for (uint8_t& byte : noise) byte = static_cast<uint8_t>(Below(256));
      return noise;
    }
    const Input& from = inputs_[Below(inputs_.size())];
    if (from.empty() || Below(2) == 0) return from;
    const size_t begin = Below(from.size());
    const size_t count = Below(from.size() - begin) + 1;
    const auto first = from.begin() + static_cast<std::ptrdiff_t>(begin);
    return Input(first, first + static_cast<std::ptrdiff_t>(count));
  }

  const std::vector<Input>& inputs_;
  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  size_t random_inputs = 0;
  std::vector<fs::path> paths;
  for (const std::string_view argument : std::vector<std::string_view>(argv + 1, argv + argc)) {
    constexpr std::string_view kRandom = "--random=";
    if (argument.starts_with(kRandom)) {
      std::from_chars(argument.data() + kRandom.size(), argument.data() + argument.size(), random_inputs);
    } else {
      paths.emplace_back(argument);
    }
  }
  const std::vector<Input> inputs = Gather(paths);
  for (const Input& input : inputs) FuzzOne(input);
  if (random_inputs > 0) {
    const fs::path last = fs::temp_directory_path() / ("fuzz-last-input." + std::to_string(getpid()));
    Mixer mixer(inputs, Seed());
    for (size_t turn = 0; turn < random_inputs; ++turn) {
      const Input input = mixer.Next();
      std::ofstream(last, std::ios::binary | std::ios::trunc)
          .write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
      FuzzOne(input);
    }
    fs::remove(last);
  }
  std::cout << inputs.size() << " inputs, " << random_inputs << " random ones" << std::endl;
  return 0;
}
