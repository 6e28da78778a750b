// Holds the checksums inside an engine's files against their bytes, without opening the database.
#pragma once

#include <string>

#include "outcome.h"

namespace prefixdb {

// Reads a table file once, past the block cache, and compares the checksum of every block; nothing is decompressed but
// the index. Corruption when one differs, or the file is cut short or is no table. Thread-safe.
Outcome CheckTable(const std::string& path);

// Reads the MANIFEST that CURRENT names in an engine's directory and compares the checksum of every record. Corruption
// when one differs or the names do not fit. Thread-safe.
Outcome CheckManifest(const std::string& directory);

}  // namespace prefixdb
