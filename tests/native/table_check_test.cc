// Goal: no changed or missing byte of a table file or a MANIFEST that a reader depends on passes the check.
//
// Method: real files, one bit flipped or the end cut off at many places.
#include "table_check.h"

#include <fstream>
#include <iterator>

#include "store_support.h"

namespace prefixdb::test {

namespace {

namespace fs = std::filesystem;

// Magic number, version, and handles that are padded with bytes nobody reads.
constexpr size_t kFooterBytes = 53;

std::string ReadAll(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteAll(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

std::vector<fs::path> FilesOf(const std::string& directory, const std::string& part) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().filename().string().find(part) != std::string::npos) found.push_back(entry.path());
  }
  return found;
}

void Fill(Opened& store, uint64_t rows) {
  Request request;
  request.Begin();
  for (uint64_t row = 0; row < rows; ++row) request.Put(Key(7, row), "value " + std::to_string(row * 2654435761u));
  store.Commit(std::move(request));
  CHECK_FINE(store->Flush());
}

}  // namespace

TEST_CASE("a table is fine until any bit of its blocks is another, or its end is missing") {
  Opened store;
  Fill(store, 3'000);
  const fs::path path = FilesOf(store.path(), ".sst").at(0);
  const std::string right = ReadAll(path);
  CHECK(CheckTable(path).ok());
  for (size_t place = 0; place < right.size() - kFooterBytes; place += 61) {
    std::string wrong = right;
    wrong[place] = static_cast<char>(wrong[place] ^ 4);
    WriteAll(path, wrong);
    CAPTURE(place);
    CHECK_FALSE(CheckTable(path).ok());
  }
  for (const size_t left : {size_t{0}, size_t{10}, right.size() / 2, right.size() - 1}) {
    WriteAll(path, right.substr(0, left));
    CHECK_FALSE(CheckTable(path).ok());
  }
  fs::remove(path);
  CHECK_FALSE(CheckTable(path).ok());
  WriteAll(path, right);
  CHECK(CheckTable(path).ok());
}

TEST_CASE("a MANIFEST is fine until any bit of its records is another") {
  Opened store;
  Fill(store, 100);
  const fs::path path = FilesOf(store.path(), "MANIFEST-").at(0);
  const std::string right = ReadAll(path);
  CHECK(CheckManifest(store.path()).ok());
  for (size_t place = 0; place < right.size(); ++place) {
    std::string wrong = right;
    wrong[place] = static_cast<char>(wrong[place] ^ 4);
    WriteAll(path, wrong);
    CAPTURE(place);
    CHECK_FALSE(CheckManifest(store.path()).ok());
  }
  WriteAll(path, right);
  CHECK(CheckManifest(store.path()).ok());
  WriteAll(fs::path(store.path()) / "CURRENT", "MANIFEST-999999\n");
  CHECK_FALSE(CheckManifest(store.path()).ok());
}

}  // namespace prefixdb::test
