#include "python_table_writer.h"

#include <string_view>
#include <utility>
#include <vector>

#include "python_types.h"

namespace py = pybind11;

namespace prefixdb::python {

PyTableWriter::PyTableWriter(std::unique_ptr<TableWriter> writer) : writer_(std::move(writer)) {}

void PyTableWriter::Add(const py::sequence& rows, uint64_t version) {
  struct Row {
    std::string_view key, payload;
    uint64_t version, expires_at_ms;
  };
  const py::tuple held(rows);
  std::vector<py::tuple> kept;  // Keeps the bytes alive while the lock is released.
  std::vector<Row> wanted;
  for (const py::handle each : held) {
    kept.emplace_back(py::reinterpret_borrow<py::object>(each));
    const py::tuple& row = kept.back();
    if (row.size() != 4) throw py::value_error("a row is (key, payload, expires_at_ms, version)");
    const uint64_t own = VersionOf(row[3]);
    if (own >= version) throw py::value_error("a version of no earlier commit");
    wanted.push_back({BytesOf(row[0]), BytesOf(row[1]), own != 0 ? own : version, row[2].cast<uint64_t>()});
  }
  Run([&]() -> Outcome {
    for (const Row& row : wanted) {
      Outcome outcome = writer_->Add(row.key, row.payload, row.version, row.expires_at_ms);
      if (!outcome.ok()) return outcome;
    }
    return {};
  });
}

uint64_t PyTableWriter::Finish() {
  uint64_t bytes = 0;
  Run([&] { return writer_->Finish(&bytes); });
  return bytes;
}

void AddTableWriter(py::module_& module) {
  py::class_<PyTableWriter>(module, "TableWriter", py::is_final())
      .def("add", &PyTableWriter::Add)
      .def("finish", &PyTableWriter::Finish);
}

}  // namespace prefixdb::python
