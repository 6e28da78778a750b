#include "python_codecs.h"

#include <optional>
#include <string>

#include "key_codec.h"
#include "python_types.h"
#include "value_codec.h"

namespace py = pybind11;

namespace prefixdb::python {

namespace {

py::tuple AsSpan(const std::optional<KeySpan>& span) {
  if (!span) throw py::value_error("an argument is out of range");
  return py::make_tuple(AsBytes(span->first), AsBytes(span->second));
}

py::bytes AsKey(const std::optional<std::string>& key) {
  if (!key) throw py::value_error("an argument is out of range");
  return AsBytes(*key);
}

}  // namespace

void AddCodecs(py::module_& module) {
  module.def("data_key", [](uint64_t namespace_id, int64_t database, py::handle user_key) {
    if (database < 0 || database > UINT16_MAX) throw py::value_error("an argument is out of range");
    return AsKey(EncodeDataKey(namespace_id, static_cast<uint16_t>(database), BytesOf(user_key)));
  });
  module.def("system_key", [](uint64_t namespace_id, int64_t tag, py::handle record_key) {
    if (tag < 0 || tag > UINT8_MAX) throw py::value_error("an argument is out of range");
    return AsKey(EncodeSystemKey(namespace_id, static_cast<uint8_t>(tag), BytesOf(record_key)));
  });
  module.def("namespace_span", [](uint64_t namespace_id) { return AsSpan(NamespaceSpan(namespace_id)); });
  module.def("prefix_span", [](uint64_t namespace_id, int64_t database, py::handle prefix) {
    if (database < 0 || database > UINT16_MAX) throw py::value_error("an argument is out of range");
    return AsSpan(PrefixSpan(namespace_id, static_cast<uint16_t>(database), BytesOf(prefix)));
  });
  module.def("range_span", [](uint64_t namespace_id, int64_t database, py::handle start, py::handle end) {
    if (database < 0 || database > UINT16_MAX) throw py::value_error("an argument is out of range");
    return AsSpan(RangeSpan(namespace_id, static_cast<uint16_t>(database), BytesOf(start), BytesOf(end)));
  });
  module.def("split_data_key", [](py::handle row_key) {
    const auto key = SplitDataKey(BytesOf(row_key));
    if (!key) throw py::value_error("not a data row key");
    return py::make_tuple(key->namespace_id, key->database, AsBytes(key->user_key));
  });
  module.def("encode_value", [](py::handle payload, uint64_t version, uint64_t expires_at_ms) {
    std::string stored;
    EncodeValue(BytesOf(payload), version, expires_at_ms, &stored);
    return AsBytes(stored);
  });
  module.def("decode_value", [](py::handle stored) {
    const auto value = DecodeValue(BytesOf(stored));
    if (!value) ThrowUnlessOk(Outcome::DamagedRow());
    return py::make_tuple(AsBytes(value->payload), value->version, value->expires_at_ms);
  });
}

}  // namespace prefixdb::python
