// The door through which clang's libFuzzer comes in; see fuzz.h.
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzOne({bytes, size});
  return 0;
}
