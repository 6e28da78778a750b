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
  // (rows, bytes, last row key), or None.
  pybind11::object AddFrame(pybind11::handle content, uint64_t namespace_id, const pybind11::tuple& span,
                            pybind11::handle after, uint64_t version, uint64_t now_ms,
                            const pybind11::object& versions);
  uint64_t Finish();

 private:
  std::unique_ptr<TableWriter> writer_;
};

void AddTableWriter(pybind11::module_& module);

}  // namespace prefixdb::python
