// Python's side of a cursor: the class Cursor of module.pyi.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>

#include "cursor.h"

namespace prefixdb::python {

class PyCursor {
 public:
  explicit PyCursor(std::shared_ptr<Cursor> cursor);
  ~PyCursor();
  PyCursor(const PyCursor&) = delete;
  PyCursor& operator=(const PyCursor&) = delete;

  pybind11::list Fetch(uint64_t max_rows, uint64_t max_bytes, uint64_t now_ms);
  pybind11::object Pack(pybind11::handle head, uint64_t max_rows, uint64_t max_bytes, uint64_t now_ms);
  uint64_t Count(uint64_t max_rows, uint64_t now_ms);
  void Close();

 private:
  std::shared_ptr<Cursor> cursor_;
};

void AddCursor(pybind11::module_& module);

}  // namespace prefixdb::python
