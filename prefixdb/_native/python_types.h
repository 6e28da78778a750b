// Between Python's objects and the store's: rows, commits and errors. With the other python_* files and module.cc the
// only one that knows Python.
//
// Everything here needs the interpreter's lock. Rows are made field by field into the named tuples of
// prefixdb/store/base.py, without a call into Python per row.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "commit.h"
#include "cursor.h"
#include "outcome.h"
#include "value_codec.h"

namespace prefixdb::python {

// Registers the exceptions of the extension with `module`.
void AddExceptions(pybind11::module_& module);

// Names the classes that go in and out; see module.pyi.
void SetTypes(const pybind11::dict& types);

// Raises what the outcome stands for, unless it is ok.
void ThrowUnlessOk(const Outcome& outcome);
// The same as an exception object that is not raised. REQUIRES: the outcome is not ok.
pybind11::object AsException(const Outcome& outcome);

// Lets go of the interpreter's lock. When the interpreter ends meanwhile, CPython ends this (daemon) thread by
// pthread_exit, whose unwinding must not pass our frames: a destructor on the way would end the process. It waits
// instead for the process to end, as CPython itself does from 3.14 on.
class Unlocked {
 public:
  Unlocked() : state_(PyEval_SaveThread()) {}
  ~Unlocked() { TakeBack(); }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  friend class Locked;

  void TakeBack() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) pause();
    }
  }

  PyThreadState* state_;
};

// Takes the interpreter's lock back for a moment, on the thread that let go of it. It restores that thread's own
// state: making or looking up one, as PyGILState_Ensure does, reads what an ending interpreter has already freed.
class Locked {
 public:
  explicit Locked(Unlocked* unlocked) : unlocked_(unlocked) { unlocked_->TakeBack(); }
  ~Locked() { unlocked_->state_ = PyEval_SaveThread(); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  Unlocked* const unlocked_;
};

// Calls `work` without the interpreter's lock and raises what came of it.
template <typename Work>
void Run(Work work) {
  Outcome outcome;
  {
    const Unlocked unlocked;
    outcome = work();
  }
  ThrowUnlessOk(outcome);
}

// The bytes of a bytes object, borrowed. Raises TypeError for anything else.
std::string_view BytesOf(pybind11::handle object);
// The same as a copy.
inline std::string Text(pybind11::handle bytes) { return std::string(BytesOf(bytes)); }
// The version of a row. Raises ValueError for a number no commit can have.
uint64_t VersionOf(pybind11::handle number);
pybind11::bytes AsBytes(std::string_view bytes);
// A text of the engine's; it may hold paths that are no UTF-8.
pybind11::object AsText(std::string_view text);

// A Row; `key` is kept in it, `value` copied.
pybind11::object MakeRow(pybind11::handle key, const StoredValue& value);
pybind11::list MakeRows(const RowBlock& block);
pybind11::object MakeResult(const CommitResult& result);
pybind11::list MakeResults(const std::vector<CommitResult>& results);

// A request that owns copies of everything `commits` names. Raises TypeError or ValueError.
std::unique_ptr<CommitRequest> MakeRequest(pybind11::handle commits, uint64_t now_ms);
// Conditions whose bytes are copied into `bytes`.
std::vector<Condition> MakeConditions(pybind11::handle conditions, Arena* bytes, size_t* size);

}  // namespace prefixdb::python
