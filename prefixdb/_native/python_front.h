// Python's side of the front: the class Front and the function rules_permit of module.pyi.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "store.h"

namespace prefixdb::python {

// The store of an Engine of Python's (module.cc). Raises TypeError for anything else.
std::shared_ptr<Store> StoreOf(pybind11::handle engine);

void AddFront(pybind11::module_& module);

}  // namespace prefixdb::python
