#include "python_cursor.h"

#include <cstring>
#include <string>
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

py::object PyCursor::Pack(py::handle head, uint64_t max_rows, uint64_t max_bytes, uint64_t now_ms) {
  if (max_rows < 1) throw py::value_error("max_rows must be at least 1");
  RowPacker packer(Text(head), {max_rows, max_bytes});
  Run([&] { return cursor_->Pack(now_ms, &packer); });
  const PackedFacts& facts = packer.facts();
  if (facts.rows == 0) return py::none();
  const std::string front = packer.Head();
  const std::string& rows = packer.rows();
  PyObject* const content = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(front.size() + rows.size()));
  if (content == nullptr) throw py::error_already_set();
  std::memcpy(PyBytes_AS_STRING(content), front.data(), front.size());
  std::memcpy(PyBytes_AS_STRING(content) + front.size(), rows.data(), rows.size());
  return py::make_tuple(py::reinterpret_steal<py::bytes>(content), facts.rows, facts.database, AsBytes(facts.first_key),
                        AsBytes(facts.last_key), facts.longest_key, facts.longest_value, facts.least_version,
                        facts.greatest_version, facts.latest_end_ms);
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
      .def("pack", &PyCursor::Pack)
      .def("count", &PyCursor::Count)
      .def("close", &PyCursor::Close);
}

}  // namespace prefixdb::python
