#include "python_types.h"

#include <utility>

namespace py = pybind11;

namespace prefixdb::python {

namespace {

// The classes of prefixdb/store/base.py and the names of their attributes. Written once, under the interpreter's lock,
// and never destroyed: destructors of globals would run after the interpreter.
struct Types {
  PyTypeObject* row = nullptr;
  PyTypeObject* commit_result = nullptr;
  PyTypeObject* put = nullptr;
  PyTypeObject* remove = nullptr;
  PyTypeObject* remove_span = nullptr;
  PyTypeObject* version_is = nullptr;
  PyTypeObject* absent = nullptr;
  PyTypeObject* exists = nullptr;
  PyTypeObject* value_is = nullptr;

  PyObject* engine_error = nullptr;
  PyObject* closed_error = nullptr;
  PyObject* span_violation_error = nullptr;
  PyObject* damaged_row_error = nullptr;

  PyObject* name_mutations = PyUnicode_InternFromString("mutations");
  PyObject* name_conditions = PyUnicode_InternFromString("conditions");
  PyObject* name_guards = PyUnicode_InternFromString("guards");
  PyObject* name_span = PyUnicode_InternFromString("span");
  PyObject* name_begin = PyUnicode_InternFromString("begin");
  PyObject* name_end = PyUnicode_InternFromString("end");
};

Types& types() {
  static Types* const known = new Types();
  return *known;
}

[[noreturn]] void Raise(PyObject* type, const char* text) {
  PyErr_SetString(type, text);
  throw py::error_already_set();
}

py::object Checked(PyObject* owned) {
  if (owned == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(owned);
}

uint64_t Unsigned(PyObject* number) {
  const unsigned long long value = PyLong_AsUnsignedLongLong(number);
  if (value == static_cast<unsigned long long>(-1) && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return value;
}

// An uninitialised named tuple of `size` fields; each must be set before anybody else sees it.
PyObject* NewTuple(PyTypeObject* type, Py_ssize_t size) {
  if (type == nullptr) Raise(PyExc_RuntimeError, "set_types was not called");
  PyObject* const made = type->tp_alloc(type, size);
  if (made == nullptr) throw py::error_already_set();
  return made;
}

py::object FillRow(PyObject* key, std::string_view payload, uint64_t version, uint64_t expires_at_ms) {
  py::object row = py::reinterpret_steal<py::object>(NewTuple(types().row, 4));
  py::object made_payload = Checked(PyBytes_FromStringAndSize(payload.data(), static_cast<Py_ssize_t>(payload.size())));
  py::object made_version = Checked(PyLong_FromUnsignedLongLong(version));
  py::object made_expiry = Checked(PyLong_FromUnsignedLongLong(expires_at_ms));
  PyTuple_SET_ITEM(row.ptr(), 0, Py_NewRef(key));
  PyTuple_SET_ITEM(row.ptr(), 1, made_payload.release().ptr());
  PyTuple_SET_ITEM(row.ptr(), 2, made_version.release().ptr());
  PyTuple_SET_ITEM(row.ptr(), 3, made_expiry.release().ptr());
  return row;
}

// Bytes and integers make no cycles, so the collector need not look at rows.
void Untrack(const py::object& row) { PyObject_GC_UnTrack(row.ptr()); }

std::string_view CopyBytes(PyObject* object, Arena* bytes, size_t* size) {
  const std::string_view borrowed = BytesOf(object);
  *size += borrowed.size();
  return bytes->Copy(borrowed);
}

PyObject* Field(PyObject* tuple, Py_ssize_t index) {
  if (index >= PyTuple_GET_SIZE(tuple)) Raise(PyExc_TypeError, "a field is missing");
  return PyTuple_GET_ITEM(tuple, index);
}

Condition MakeCondition(PyObject* condition, Arena* bytes, size_t* size) {
  const Types& known = types();
  const PyTypeObject* const type = Py_TYPE(condition);
  if (type == known.version_is) {
    return {
        Condition::Kind::kVersionIs, CopyBytes(Field(condition, 0), bytes, size), Unsigned(Field(condition, 1)), {}};
  }
  if (type == known.absent) return {Condition::Kind::kAbsent, CopyBytes(Field(condition, 0), bytes, size), 0, {}};
  if (type == known.exists) return {Condition::Kind::kExists, CopyBytes(Field(condition, 0), bytes, size), 0, {}};
  if (type == known.value_is) {
    return {Condition::Kind::kValueIs, CopyBytes(Field(condition, 0), bytes, size), 0,
            CopyBytes(Field(condition, 1), bytes, size)};
  }
  Raise(PyExc_TypeError, "not a condition");
}

Mutation MakeMutation(PyObject* mutation, Arena* bytes, size_t* size) {
  const Types& known = types();
  const PyTypeObject* const type = Py_TYPE(mutation);
  if (type == known.put) {
    return {Mutation::Kind::kPut, CopyBytes(Field(mutation, 0), bytes, size),
            CopyBytes(Field(mutation, 1), bytes, size), Unsigned(Field(mutation, 2)), VersionOf(Field(mutation, 3))};
  }
  if (type == known.remove) return {Mutation::Kind::kDelete, CopyBytes(Field(mutation, 0), bytes, size), {}, 0};
  if (type == known.remove_span) {
    const py::object begin = Checked(PyObject_GetAttr(Field(mutation, 0), known.name_begin));
    const py::object end = Checked(PyObject_GetAttr(Field(mutation, 0), known.name_end));
    const Mutation made{Mutation::Kind::kDeleteSpan, CopyBytes(begin.ptr(), bytes, size),
                        CopyBytes(end.ptr(), bytes, size), 0};
    // An inverted range would poison the engine, so it goes no further than here.
    if (made.key > made.value) Raise(PyExc_ValueError, "inverted span");
    return made;
  }
  Raise(PyExc_TypeError, "not a mutation");
}

template <typename Made, typename Make>
std::vector<Made> MakeAll(PyObject* sequence, Arena* bytes, size_t* size, Make make) {
  const py::object items = Checked(PySequence_Tuple(sequence));
  const Py_ssize_t count = PyTuple_GET_SIZE(items.ptr());
  std::vector<Made> made;
  made.reserve(static_cast<size_t>(count));
  for (Py_ssize_t index = 0; index < count; ++index) {
    made.push_back(make(PyTuple_GET_ITEM(items.ptr(), index), bytes, size));
  }
  return made;
}

PyObject* NewException(py::module_& module, const char* name, const char* text, PyObject* base) {
  const std::string qualified = std::string("prefixdb._native.module.") + name;
  PyObject* const made = PyErr_NewExceptionWithDoc(qualified.c_str(), text, base, nullptr);
  if (made == nullptr) throw py::error_already_set();
  module.attr(name) = py::handle(made);
  return made;
}

PyTypeObject* TypeNamed(const py::dict& wanted, const char* name) {
  const py::object type = wanted[name];
  if (!PyType_Check(type.ptr()) || PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type.ptr()), &PyTuple_Type) == 0) {
    Raise(PyExc_TypeError, "named tuples are wanted");
  }
  return reinterpret_cast<PyTypeObject*>(type.inc_ref().ptr());
}

}  // namespace

void AddExceptions(py::module_& module) {
  Types& known = types();
  known.engine_error =
      NewException(module, "EngineError", "A RocksDB status that is not OK; the text is the status's own.", nullptr);
  py::handle(known.engine_error).attr("attempted") = true;
  known.span_violation_error =
      NewException(module, "SpanViolationError",
                   "A key outside the span a cursor was opened for came back from the engine.", nullptr);
  known.damaged_row_error =
      NewException(module, "DamagedRowError", "A stored value is cut short or of an unknown format.", nullptr);
  known.closed_error =
      NewException(module, "EngineClosedError", "The engine was closed, or is being closed.", PyExc_RuntimeError);
}

void SetTypes(const py::dict& wanted) {
  Types& known = types();
  known.row = TypeNamed(wanted, "Row");
  known.commit_result = TypeNamed(wanted, "CommitResult");
  known.put = TypeNamed(wanted, "Put");
  known.remove = TypeNamed(wanted, "Delete");
  known.remove_span = TypeNamed(wanted, "DeleteSpan");
  known.version_is = TypeNamed(wanted, "VersionIs");
  known.absent = TypeNamed(wanted, "Absent");
  known.exists = TypeNamed(wanted, "Exists");
  known.value_is = TypeNamed(wanted, "ValueIs");
}

py::object AsException(const Outcome& outcome) {
  const Types& known = types();
  PyObject* type = known.engine_error;
  switch (outcome.fault) {
    case Fault::kNone:
    case Fault::kEngine:
      break;
    case Fault::kClosed:
      type = known.closed_error;
      break;
    case Fault::kSpanViolation:
      type = known.span_violation_error;
      break;
    case Fault::kDamagedRow:
      type = known.damaged_row_error;
      break;
    case Fault::kInvalidArgument:
      type = PyExc_ValueError;
      break;
  }
  const py::object text = AsText(outcome.text);
  py::object made = Checked(PyObject_CallOneArg(type, text.ptr()));
  if (type == known.engine_error) made.attr("attempted") = outcome.attempted;
  return made;
}

void ThrowUnlessOk(const Outcome& outcome) {
  if (outcome.ok()) return;
  const py::object failure = AsException(outcome);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(failure.ptr())), failure.ptr());
  throw py::error_already_set();
}

std::string_view BytesOf(py::handle object) {
  if (!PyBytes_Check(object.ptr())) Raise(PyExc_TypeError, "bytes are wanted");
  return {PyBytes_AS_STRING(object.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(object.ptr()))};
}

uint64_t VersionOf(py::handle number) {
  const unsigned long long value = PyLong_AsUnsignedLongLong(number.ptr());
  if (value == static_cast<unsigned long long>(-1) && PyErr_Occurred() != nullptr) {
    if (PyErr_ExceptionMatches(PyExc_OverflowError) == 0) throw py::error_already_set();
    PyErr_Clear();
    Raise(PyExc_ValueError, "a version of no earlier commit");
  }
  return value;
}

py::object AsText(std::string_view text) {
  return Checked(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "backslashreplace"));
}

py::bytes AsBytes(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

py::object MakeRow(py::handle key, const StoredValue& value) {
  py::object row = FillRow(key.ptr(), value.payload, value.version, value.expires_at_ms);
  Untrack(row);
  return row;
}

py::list MakeRows(const RowBlock& block) {
  py::list rows(block.rows.size());
  Py_ssize_t index = 0;
  for (const RowBlock::Row& each : block.rows) {
    const py::object key =
        Checked(PyBytes_FromStringAndSize(each.key.data(), static_cast<Py_ssize_t>(each.key.size())));
    py::object row = FillRow(key.ptr(), each.payload, each.version, each.expires_at_ms);
    Untrack(row);
    PyList_SET_ITEM(rows.ptr(), index++, row.release().ptr());
  }
  return rows;
}

py::object MakeResult(const CommitResult& result) {
  py::object made = py::reinterpret_steal<py::object>(NewTuple(types().commit_result, 5));
  PyTuple_SET_ITEM(made.ptr(), 0, Py_NewRef(result.applied ? Py_True : Py_False));
  PyTuple_SET_ITEM(made.ptr(), 1, Checked(PyLong_FromUnsignedLongLong(result.version)).release().ptr());
  PyTuple_SET_ITEM(made.ptr(), 2, Checked(PyLong_FromLongLong(result.failed_guard)).release().ptr());
  PyTuple_SET_ITEM(made.ptr(), 3, Checked(PyLong_FromLongLong(result.failed_condition)).release().ptr());
  PyTuple_SET_ITEM(made.ptr(), 4, Checked(PyLong_FromUnsignedLongLong(result.current_version)).release().ptr());
  return made;
}

py::list MakeResults(const std::vector<CommitResult>& results) {
  py::list made(results.size());
  Py_ssize_t index = 0;
  for (const CommitResult& each : results) PyList_SET_ITEM(made.ptr(), index++, MakeResult(each).release().ptr());
  return made;
}

std::vector<Condition> MakeConditions(py::handle conditions, Arena* bytes, size_t* size) {
  return MakeAll<Condition>(conditions.ptr(), bytes, size, MakeCondition);
}

std::unique_ptr<CommitRequest> MakeRequest(py::handle commits, uint64_t now_ms) {
  const Types& known = types();
  auto request = std::make_unique<CommitRequest>();
  request->now_ms = now_ms;
  const auto make = [&known](PyObject* commit, Arena* bytes, size_t* size) {
    const py::object guards = Checked(PyObject_GetAttr(commit, known.name_guards));
    const py::object conditions = Checked(PyObject_GetAttr(commit, known.name_conditions));
    const py::object mutations = Checked(PyObject_GetAttr(commit, known.name_mutations));
    return Commit{MakeAll<Condition>(guards.ptr(), bytes, size, MakeCondition),
                  MakeAll<Condition>(conditions.ptr(), bytes, size, MakeCondition),
                  MakeAll<Mutation>(mutations.ptr(), bytes, size, MakeMutation)};
  };
  request->commits = MakeAll<Commit>(commits.ptr(), &request->bytes, &request->size, make);
  return request;
}

}  // namespace prefixdb::python
