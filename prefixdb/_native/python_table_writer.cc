#include "python_table_writer.h"

#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "python_types.h"
#include "rows_reader.h"

namespace py = pybind11;

namespace prefixdb::python {

namespace {

std::span<const uint64_t> Numbers(const py::buffer_info& info) {
  if (info.ndim != 1 || info.itemsize != sizeof(uint64_t) || info.strides[0] != sizeof(uint64_t) ||
      (info.format != "Q" && info.format != "L")) {
    throw py::type_error("an array of unsigned numbers of 64 bits is wanted");
  }
  return {static_cast<const uint64_t*>(info.ptr), static_cast<size_t>(info.size)};
}

// What a rule borrows from: while it lives the arrays can neither go nor change their size.
struct HeldRule {
  std::vector<py::buffer_info> held;
  VersionRule rule;

  // None for new versions, an empty tuple for those the rows bring, three arrays for the ranked ones.
  explicit HeldRule(const py::object& versions) {
    if (versions.is_none()) return;
    const py::tuple parts(versions);
    rule.kind = VersionRule::Kind::kKept;
    if (parts.empty()) return;
    if (parts.size() != 3) throw py::value_error("a mapping of versions is three arrays");
    for (const py::handle each : parts) held.push_back(py::reinterpret_borrow<py::buffer>(each).request());
    rule = {VersionRule::Kind::kRanked, Numbers(held[0]), Numbers(held[1]), Numbers(held[2])};
  }
};

py::object Scan(py::handle content) {
  const std::string_view bytes = BytesOf(content);
  std::optional<RowsFacts> facts;
  {
    const Unlocked unlocked;
    facts = ScanRows(bytes);
  }
  if (!facts) return py::none();
  return py::make_tuple(facts->database, facts->rows, AsBytes(facts->first_key), AsBytes(facts->last_key),
                        facts->ascending, facts->value_bytes_max, facts->version_min, facts->version_max,
                        facts->expires_at_ms_max, facts->bytes);
}

py::object Versions(py::handle content) {
  const std::string_view bytes = BytesOf(content);
  std::optional<std::vector<uint64_t>> versions;
  {
    const Unlocked unlocked;
    versions = DistinctVersions(bytes);
  }
  if (!versions) return py::none();
  return AsBytes({reinterpret_cast<const char*>(versions->data()), versions->size() * sizeof(uint64_t)});
}

}  // namespace

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

py::object PyTableWriter::AddFrame(py::handle content, uint64_t namespace_id, const py::tuple& span, py::handle after,
                                   uint64_t version, uint64_t now_ms, const py::object& versions) {
  if (span.size() != 2) throw py::value_error("a span is (begin, end)");
  const HeldRule held(versions);
  const std::string_view bytes = BytesOf(content);
  const FrameTarget target{namespace_id, BytesOf(span[0]), BytesOf(span[1]), BytesOf(after),
                           version,      now_ms,           held.rule};
  FrameAdded added;
  Run([&] { return writer_->AddFrame(bytes, target, &added); });
  if (!added.taken) return py::none();
  return py::make_tuple(added.rows, added.bytes, AsBytes(added.last_key));
}

uint64_t PyTableWriter::Finish() {
  uint64_t bytes = 0;
  Run([&] { return writer_->Finish(&bytes); });
  return bytes;
}

void AddTableWriter(py::module_& module) {
  module.def("scan_rows", &Scan);
  module.def("row_versions", &Versions);
  py::class_<PyTableWriter>(module, "TableWriter", py::is_final())
      .def("add", &PyTableWriter::Add)
      .def("add_frame", &PyTableWriter::AddFrame, py::arg("content"), py::kw_only(), py::arg("namespace_id"),
           py::arg("span"), py::arg("after"), py::arg("version"), py::arg("now_ms"), py::arg("versions"))
      .def("finish", &PyTableWriter::Finish);
}

}  // namespace prefixdb::python
