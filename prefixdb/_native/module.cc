// The extension prefixdb._native.module; module.pyi is its contract.
//
// The interpreter's lock is released around everything that enters RocksDB. No thread of the store ever takes it: the
// committer tells Python by an eventfd, and a compaction's stop is asked by the thread that called compact.
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <rocksdb/version.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "completion_queue.h"
#include "python_codecs.h"
#include "python_cursor.h"
#include "python_front.h"
#include "python_table_writer.h"
#include "python_types.h"
#include "read_habit.h"
#include "store.h"
#include "table_check.h"

namespace py = pybind11;

namespace prefixdb::python {

namespace {

class Engine {
 public:
  Engine(const std::string& path, const OpenOptions& options) {
    Run([&] { return Store::Open(path, options, &store_); });
  }
  ~Engine() {
    const Unlocked unlocked;
    store_->Close();
    store_.reset();
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  py::object Get(py::handle key);
  py::list GetMany(const py::sequence& keys, uint64_t now_ms);
  std::unique_ptr<PyCursor> OpenCursor(py::handle begin, py::handle end, bool reverse, bool keys_only, py::handle bound,
                                       bool bulk);

  py::list Commit(py::handle commits, uint64_t now_ms) {
    auto request = MakeRequest(commits, now_ms);
    std::vector<CommitResult> results;
    Run([&] { return store_->Commit(std::move(request), &results); });
    return MakeResults(results);
  }
  uint64_t Submit(py::handle commits, uint64_t now_ms);
  int CompletionsFd() const { return completions_->fd(); }
  py::list Completions();

  bool Compact(const py::object& begin, const py::object& end, const py::object& stop);
  py::list LiveFiles();
  py::object Ingest(const std::vector<std::string>& paths, py::handle begin, py::handle end, py::handle guards,
                    uint64_t now_ms);

  Store& store() { return *store_; }
  const std::shared_ptr<Store>& shared_store() const { return store_; }
  void Close() {
    const Unlocked unlocked;
    store_->Close();
  }

 private:
  std::shared_ptr<Store> store_;
  std::shared_ptr<CompletionQueue> completions_ = std::make_shared<CompletionQueue>();
  uint64_t last_ticket_ = 0;  // Guarded by the interpreter's lock, as is the habit.
  ReadHabit habit_;
};

// Most reads are answered from memory, in less time than it takes to let go of the interpreter's lock and, worse, to
// get it back from a busy thread (5 ms). Only a read that needs the disk lets go of it.
py::object Engine::Get(py::handle key) {
  const std::string_view wanted = BytesOf(key);
  Found found;
  bool decided = false;
  if (habit_.AsksMemory()) {
    ThrowUnlessOk(store_->GetFromMemory(wanted, &found, &decided));
    habit_.Note(decided);
  }
  if (!decided) Run([&] { return store_->Get(wanted, &found); });
  return found.value ? MakeRow(key, *found.value) : py::none();
}

// Called by the interpreter directly: what pybind11 does to tell overloads apart takes as long as the read.
PyObject* GetDirectly(PyObject* self, PyObject* key) {
  try {
    return py::handle(self).cast<Engine&>().Get(key).release().ptr();
  } catch (py::error_already_set& failure) {
    failure.restore();
  } catch (const std::exception& failure) {
    PyErr_SetString(PyExc_RuntimeError, failure.what());
  }
  return nullptr;
}

PyMethodDef get_method = {"get", &GetDirectly, METH_O, "Return the row of a key, expired or not, or None."};

py::list Engine::GetMany(const py::sequence& keys, uint64_t now_ms) {
  const py::tuple held(keys);  // Keeps the bytes alive while the lock is released.
  std::vector<rocksdb::Slice> wanted;
  wanted.reserve(held.size());
  for (const py::handle key : held) {
    const std::string_view bytes = BytesOf(key);
    wanted.emplace_back(bytes.data(), bytes.size());
  }
  ManyFound found;
  Run([&] { return store_->GetMany(wanted, &found); });
  py::list rows(wanted.size());
  for (size_t index = 0; index < wanted.size(); ++index) {
    const auto& value = found.values[index];
    py::object row = py::none();
    if (value && !(now_ms != 0 && value->ExpiredAt(now_ms))) row = MakeRow(held[index], *value);
    PyList_SET_ITEM(rows.ptr(), static_cast<Py_ssize_t>(index), row.release().ptr());
  }
  return rows;
}

std::unique_ptr<PyCursor> Engine::OpenCursor(py::handle begin, py::handle end, bool reverse, bool keys_only,
                                             py::handle bound, bool bulk) {
  CursorOptions options{Text(begin), Text(end), Text(bound), reverse, keys_only, bulk};
  std::shared_ptr<Cursor> cursor;
  Run([&] { return store_->OpenCursor(std::move(options), &cursor); });
  return std::make_unique<PyCursor>(std::move(cursor));
}

uint64_t Engine::Submit(py::handle commits, uint64_t now_ms) {
  auto request = MakeRequest(commits, now_ms);
  const uint64_t ticket = ++last_ticket_;
  request->done = [ticket, completions = completions_](Outcome outcome, std::vector<CommitResult> results) {
    completions->Push({ticket, std::move(outcome), std::move(results)});
  };
  // Queuing waits for nothing but a lock that is held for microseconds.
  ThrowUnlessOk(store_->Submit(std::move(request)));
  return ticket;
}

py::list Engine::Completions() {
  py::list made;
  for (const CompletionQueue::Done& done : completions_->Take()) {
    made.append(py::make_tuple(done.ticket,
                               done.outcome.ok() ? py::object(MakeResults(done.results)) : AsException(done.outcome)));
  }
  return made;
}

bool Engine::Compact(const py::object& begin, const py::object& end, const py::object& stop) {
  std::optional<std::string> first;
  std::optional<std::string> last;
  if (!begin.is_none()) first = Text(begin);
  if (!end.is_none()) last = Text(end);
  std::optional<py::error_already_set> failed;
  std::optional<Unlocked> unlocked;
  const auto poll = [&stop, &failed, &unlocked] {
    const Locked locked(&*unlocked);
    if (failed) return false;
    try {
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      return stop.is_none() || !stop().cast<bool>();
    } catch (py::error_already_set& failure) {
      failed.emplace(std::move(failure));
      return false;
    } catch (const std::exception& failure) {  // A cast: nothing may leave while the compaction runs.
      PyErr_SetString(PyExc_TypeError, failure.what());
      failed.emplace();
      return false;
    }
  };
  bool finished = false;
  unlocked.emplace();
  const Outcome outcome = store_->Compact(first, last, poll, &finished);
  unlocked.reset();
  if (failed) throw std::move(*failed);
  ThrowUnlessOk(outcome);
  return finished;
}

py::list Engine::LiveFiles() {
  std::vector<rocksdb::LiveFileMetaData> files;
  Run([&] { return store_->LiveFiles(&files); });
  py::list made;
  for (const auto& file : files) {
    const size_t slash = file.name.find_first_not_of('/');
    made.append(py::make_tuple(file.name.substr(slash), file.size, file.level, AsBytes(file.smallestkey),
                               AsBytes(file.largestkey), file.num_entries, file.num_deletions));
  }
  return made;
}

py::object Engine::Ingest(const std::vector<std::string>& paths, py::handle begin, py::handle end, py::handle guards,
                          uint64_t now_ms) {
  Arena bytes;
  size_t size = 0;
  const std::vector<Condition> wanted = MakeConditions(guards, &bytes, &size);
  const std::string first = Text(begin);
  const std::string last = Text(end);
  std::optional<CommitResult> result;
  Run([&] { return store_->Ingest(paths, first, last, wanted, now_ms, &result); });
  return result ? MakeResult(*result) : py::none();
}

std::unique_ptr<Engine> OpenEngine(const py::object& path, bool create, bool read_only, bool sync, uint64_t cache_bytes,
                                   uint64_t write_buffer_bytes, int max_open_files,
                                   uint64_t compaction_bytes_per_second, uint64_t range_deletes_max) {
  PyObject* encoded = nullptr;
  if (PyUnicode_FSConverter(path.ptr(), &encoded) == 0) throw py::error_already_set();
  const py::object held = py::reinterpret_steal<py::object>(encoded);
  OpenOptions options;
  options.create = create;
  options.read_only = read_only;
  options.sync = sync;
  options.cache_bytes = cache_bytes;
  options.write_buffer_bytes = write_buffer_bytes;
  options.max_open_files = max_open_files;
  options.compaction_bytes_per_second = compaction_bytes_per_second;
  options.range_deletes_max = range_deletes_max;
  return std::make_unique<Engine>(Text(held), options);
}

std::vector<std::pair<std::string, std::string>> Spans(const py::sequence& spans) {
  std::vector<std::pair<std::string, std::string>> made;
  for (const py::handle each : spans) {
    const py::tuple span(py::reinterpret_borrow<py::object>(each));
    if (span.size() != 2) throw py::value_error("a span is (begin, end)");
    made.emplace_back(Text(span[0]), Text(span[1]));
  }
  return made;
}

void AddBans(py::class_<Engine>& engine) {
  engine.def("publish_bans", [](Engine& self, const std::vector<uint64_t>& ids) {
    if (!self.store().shared().bans->Publish(ids)) throw py::value_error("a namespace that cannot be banned");
  });
  engine.def("withdraw_bans", [](Engine& self, const std::vector<uint64_t>& ids) {
    self.store().shared().bans->Withdraw(ids);
    self.store().shared().drop_counters->Forget(ids);
  });
  engine.def("set_expiry_horizon",
             [](Engine& self, uint64_t before_ms) { self.store().shared().bans->RaiseExpiryHorizon(before_ms); });
  engine.def("dropped", [](Engine& self, uint64_t namespace_id) {
    const auto dropped = self.store().shared().drop_counters->Of(namespace_id);
    return py::make_tuple(dropped.rows, dropped.bytes);
  });
  engine.def("filter_counts", [](Engine& self) {
    const FilterCounts& counts = *self.store().shared().filter_counts;
    py::dict made;
    made["malformed_kept"] = counts.malformed_kept.load();
    made["expired_dropped"] = counts.expired_dropped.load();
    made["namespaces_skipped"] = counts.namespaces_skipped.load();
    made["banned"] = self.store().shared().bans->Current()->ids().size();
    return made;
  });
}

void AddSpace(py::class_<Engine>& engine) {
  engine.def("delete_files", [](Engine& self, const py::sequence& spans) {
    const auto wanted = Spans(spans);
    uint64_t bytes = 0;
    Run([&] { return self.store().DeleteFiles(wanted, &bytes); });
    return bytes;
  });
  engine.def("compact", &Engine::Compact);
  engine.def("live_files", &Engine::LiveFiles);
  engine.def("namespace_size", [](Engine& self, uint64_t namespace_id) {
    NamespaceStats stats;
    bool complete = false;
    Run([&] { return self.store().NamespaceSize(namespace_id, &stats, &complete); });
    return py::make_tuple(stats.rows, stats.bytes, complete);
  });
  engine.def("approximate_bytes", [](Engine& self, py::handle begin, py::handle end) {
    const std::string first = Text(begin);
    const std::string last = Text(end);
    uint64_t bytes = 0;
    Run([&] { return self.store().ApproximateBytes(first, last, &bytes); });
    return bytes;
  });
  engine.def("has_any_version", [](Engine& self, py::handle begin, py::handle end) {
    const std::string first = Text(begin);
    const std::string last = Text(end);
    bool found = false;
    Run([&] { return self.store().HasAnyVersion(first, last, &found); });
    return found;
  });
  engine.def("range_deletes", [](Engine& self, py::handle begin, py::handle end) {
    const std::string first = Text(begin);
    const std::string last = Text(end);
    uint64_t count = 0;
    Run([&] { return self.store().RangeDeletes(first, last, &count); });
    return count;
  });
  engine.def("flush", [](Engine& self) { Run([&] { return self.store().Flush(); }); });
  engine.def("last_sequence", [](Engine& self) {
    uint64_t sequence = 0;
    Run([&] { return self.store().LastSequence(&sequence); });
    return sequence;
  });
  engine.def("property_int", [](Engine& self, const std::string& name) {
    uint64_t value = 0;
    Run([&] { return self.store().PropertyInt(name, &value); });
    return value;
  });
  engine.def("checkpoint",
             [](Engine& self, const std::string& target) { Run([&] { return self.store().Checkpoint(target); }); });
  engine.def("table_writer", [](Engine& self, const std::string& path) {
    std::unique_ptr<TableWriter> writer;
    Run([&] { return self.store().NewTableWriter(path, &writer); });
    return std::make_unique<PyTableWriter>(std::move(writer));
  });
  engine.def("ingest", &Engine::Ingest);
}

void AddEngine(py::module_& module) {
  py::class_<Engine> engine(module, "Engine", py::is_final());
  engine.def(py::init(&OpenEngine), py::arg("path"), py::kw_only(), py::arg("create"), py::arg("read_only"),
             py::arg("sync"), py::arg("cache_bytes"), py::arg("write_buffer_bytes"), py::arg("max_open_files"),
             py::arg("compaction_bytes_per_second"), py::arg("range_deletes_max"));
  PyObject* const get = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(engine.ptr()), &get_method);
  if (get == nullptr) throw py::error_already_set();
  engine.attr("get") = py::reinterpret_steal<py::object>(get);
  engine.def("get_many", &Engine::GetMany);
  engine.def("open_cursor", &Engine::OpenCursor, py::arg("begin"), py::arg("end"), py::kw_only(), py::arg("reverse"),
             py::arg("keys_only"), py::arg("bound"), py::arg("bulk") = false);
  engine.def("commit", &Engine::Commit);
  engine.def("submit", &Engine::Submit);
  engine.def("completions_fd", &Engine::CompletionsFd);
  engine.def("completions", &Engine::Completions);
  engine.def("put_raw", [](Engine& self, py::handle key, py::handle value) {
    const std::string_view first = BytesOf(key);
    const std::string_view second = BytesOf(value);
    Run([&] { return self.store().PutRaw(first, second); });
  });
  engine.def("unflushed_range_deletes", [](Engine& self) { return self.store().unflushed_range_deletes(); });
  engine.def("failure", [](Engine& self) -> py::object {
    const auto text = self.store().failure();
    return text ? AsText(*text) : py::none();
  });
  AddBans(engine);
  AddSpace(engine);
  engine.def("cancel_background", [](Engine& self) {
    const Unlocked unlocked;
    self.store().CancelBackground();
  });
  engine.def("close", &Engine::Close);
  engine.def("abandon", [](Engine& self) { self.store().Abandon(); });
}

void AddChecks(py::module_& module) {
  module.def("check_table", [](const std::string& path) { Run([&] { return CheckTable(path); }); });
  module.def("check_manifest", [](const std::string& directory) { Run([&] { return CheckManifest(directory); }); });
}

}  // namespace

std::shared_ptr<Store> StoreOf(py::handle engine) { return engine.cast<Engine&>().shared_store(); }

}  // namespace prefixdb::python

PYBIND11_MODULE(module, module) {
  using namespace prefixdb::python;  // NOLINT
  module.attr("ROCKSDB_VERSION") = rocksdb::GetRocksVersionAsString();
  AddExceptions(module);
  module.def("set_types", &SetTypes);
  AddCodecs(module);
  AddCursor(module);
  AddTableWriter(module);
  AddEngine(module);
  AddChecks(module);
  AddFront(module);
}
