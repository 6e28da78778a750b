// Python's side of a table writer: the class TableWriter of module.pyi.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>

#include "table_writer.h"

namespace prefixdb::python {

class PyTableWriter {
 public:
  explicit PyTableWriter(std::unique_ptr<TableWriter> writer);

  void Add(const pybind11::sequence& rows, uint64_t version);
  uint64_t Finish();

 private:
  std::unique_ptr<TableWriter> writer_;
};

void AddTableWriter(pybind11::module_& module);

}  // namespace prefixdb::python
