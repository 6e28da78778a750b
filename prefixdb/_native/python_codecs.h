// The codecs of keys and values as Python functions, for the vectors that pin both implementations.
#pragma once

#include <pybind11/pybind11.h>

namespace prefixdb::python {

void AddCodecs(pybind11::module_& module);

}  // namespace prefixdb::python
