#include "python_cursor.h"

#include <utility>

#include "python_types.h"

namespace py = pybind11;

namespace prefixdb::python {

PyCursor::PyCursor(std::shared_ptr<Cursor> cursor) : cursor_(std::move(cursor)) {}

PyCursor::~PyCursor() {
  const Unlocked unlocked;
  cursor_.reset();
}

py::list PyCursor::Fetch(uint64_t max_rows, uint64_t max_bytes, uint64_t now_ms) {
  if (max_rows < 1) throw py::value_error("max_rows must be at least 1");
  RowBlock block;
  Run([&] { return cursor_->Fetch(max_rows, max_bytes, now_ms, &block); });
  return MakeRows(block);
}

uint64_t PyCursor::Count(uint64_t max_rows, uint64_t now_ms) {
  uint64_t counted = 0;
  Run([&] { return cursor_->Count(max_rows, now_ms, &counted); });
  return counted;
}

void PyCursor::Close() {
  const Unlocked unlocked;
  cursor_->Close();
}

void AddCursor(py::module_& module) {
  py::class_<PyCursor>(module, "Cursor", py::is_final())
      .def("fetch", &PyCursor::Fetch)
      .def("count", &PyCursor::Count)
      .def("close", &PyCursor::Close);
}

}  // namespace prefixdb::python
