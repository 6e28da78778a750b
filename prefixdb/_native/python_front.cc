#include "python_front.h"

#include <pybind11/stl.h>
#include <unistd.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "front/descriptor.h"
#include "front/front.h"
#include "front/methods.h"
#include "front/rules.h"
#include "python_types.h"

namespace py = pybind11;

namespace prefixdb::python {

namespace {

using front::Failure;
using front::Front;
using front::NativeMethod;
using front::Question;
using front::Right;
using front::Rule;
using front::RuleSet;

// (database or None, prefix, read, write) each.
RuleSet MakeRules(const py::sequence& rules) {
  std::vector<Rule> made;
  made.reserve(rules.size());
  for (const py::handle each : rules) {
    const py::tuple rule(py::reinterpret_borrow<py::object>(each));
    if (rule.size() != 4) throw py::value_error("a rule is (database, prefix, read, write)");
    Rule& next = made.emplace_back();
    if (!rule[0].is_none()) next.database = rule[0].cast<uint16_t>();
    next.prefix = Text(rule[1]);
    next.read = rule[2].cast<bool>();
    next.write = rule[3].cast<bool>();
  }
  return RuleSet(made);
}

bool RulesPermit(const py::sequence& rules, bool write, uint16_t database, py::handle start, py::handle end) {
  const RuleSet made = MakeRules(rules);
  const Right right = write ? Right::kWrite : Right::kRead;
  if (end.is_none()) return made.Permits(right, database, BytesOf(start));
  return made.PermitsRange(right, database, BytesOf(start), BytesOf(end));
}

py::object TokenText(const std::optional<std::string>& token) {
  if (!token) return py::none();
  PyObject* const text = PyUnicode_DecodeUTF8(token->data(), static_cast<Py_ssize_t>(token->size()), "surrogateescape");
  if (text == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(text);
}

const char* NameOf(front::Doing doing) { return doing == front::Doing::kRead ? "read" : "write"; }

// One of the tuples of module.pyi.
struct AsTuple {
  const Question& question;

  py::tuple operator()(const front::AdmitQuestion& what) const {
    return py::make_tuple("admit", question.number, TokenText(what.token), AsText(what.peer_certificate));
  }
  py::tuple operator()(const front::TranslateQuestion& what) const {
    return py::make_tuple("translate", question.number, NameOf(what.doing), AsException(what.outcome));
  }
  py::tuple operator()(const front::ReadyQuestion& what) const {
    return py::make_tuple("ready", question.number, NameOf(what.doing), what.only_deletes);
  }
  py::tuple operator()(const front::HaltQuestion& what) const {
    return py::make_tuple("halt", question.number, what.method);
  }
};

Failure MakeFailure(uint8_t code, uint16_t reason, const std::string& name, const std::string& message,
                    std::optional<uint64_t> retry_after_ms) {
  Failure made;
  made.code = code;
  made.reason = reason;
  made.name = name;
  made.message = message;
  made.retry_after_ms = retry_after_ms;
  return made;
}

// Python's hold on a front. Whatever may wait for a loop lets go of the interpreter's lock.
class PyFront {
 public:
  explicit PyFront(front::FrontOptions options) : front_(std::make_unique<Front>(std::move(options))) {}
  ~PyFront() {
    if (getpid() != process_) {
      Abandon();
      return;
    }
    const Unlocked unlocked;
    front_.reset();
  }
  PyFront(const PyFront&) = delete;
  PyFront& operator=(const PyFront&) = delete;

  Front& front() {
    // Threads, and locks that they may have held, are the parent's.
    if (front_ == nullptr || getpid() != process_) {
      PyErr_SetString(PyExc_RuntimeError, "the front belongs to the parent process");
      throw py::error_already_set();
    }
    return *front_;
  }
  front::Services& services() { return front().services(); }

  void SetTls(py::handle chain, py::handle key, py::handle client_ca) {
    std::string why;
    std::shared_ptr<front::TlsServer> tls = front::TlsServer::Make({Text(chain), Text(key), Text(client_ca)}, &why);
    if (tls == nullptr) throw py::value_error(why);
    front().SetTls(std::move(tls));
  }
  py::list Questions();
  void Admitted(uint64_t number, uint64_t namespace_id, const py::sequence& rules, bool read_only, uint64_t ends_at_ms,
                py::handle guard_key, uint64_t guard_version, bool home_counts);
  py::dict Facts();
  py::dict Waiting();
  py::dict Calls();
  size_t Running() {
    Front& running = front();
    const Unlocked unlocked;
    return running.running();
  }
  void Changed(std::optional<uint64_t> namespace_id) {
    front::Changes& changes = services().changes;
    const Unlocked unlocked;
    changes.Changed(namespace_id);
  }
  void Halt() {
    Front& halted = front();
    halted.services().halted = true;
    const Unlocked unlocked;
    halted.Settle();
  }
  void Stop() {
    if (front_ == nullptr || getpid() != process_) return;
    const Unlocked unlocked;
    front_->Stop();
  }
  void Abandon() { static_cast<void>(front_.release()); }

 private:
  const pid_t process_ = getpid();
  std::unique_ptr<Front> front_;
};

py::list PyFront::Questions() {
  py::list made;
  for (const Question& question : services().upcalls.Take()) made.append(std::visit(AsTuple{question}, question.what));
  return made;
}

void PyFront::Admitted(uint64_t number, uint64_t namespace_id, const py::sequence& rules, bool read_only,
                       uint64_t ends_at_ms, py::handle guard_key, uint64_t guard_version, bool home_counts) {
  front::Session session;
  session.namespace_id = namespace_id;
  session.rules = MakeRules(rules);
  session.read_only = read_only;
  session.ends_at_ms = ends_at_ms;
  session.guard_key = Text(guard_key);
  session.guard_version = guard_version;
  services().upcalls.AnswerAdmitted(number, std::move(session), home_counts);
}

py::dict PyFront::Facts() {
  front::Services& all = services();
  py::dict made;
  made["connections"] = all.metrics.connections.load();
  made["sessions"] = all.sessions.size();
  made["streams"] = all.streams.open();
  made["forwarded"] = all.metrics.forwarded.load();
  made["punted"] = all.metrics.punted.load();
  return made;
}

py::dict PyFront::Waiting() {
  Front& asked = front();
  front::Waiting all;
  {
    const Unlocked unlocked;
    all = asked.waiting();
  }
  py::dict made;
  made["for_taking"] = all.for_taking;
  made["for_messages"] = all.for_messages;
  made["unread_bytes"] = services().unread.bytes();
  return made;
}

py::dict PyFront::Calls() {
  py::dict made;
  for (size_t index = 0; index < front::kNativeMethods; ++index) {
    const auto method = static_cast<NativeMethod>(index);
    const front::Metrics::PerMethod& counts = services().metrics.of(method);
    py::dict codes;
    for (size_t code = 0; code < counts.codes.size(); ++code) {
      if (const uint64_t calls = counts.codes[code].load(); calls > 0) codes[py::int_(code)] = calls;
    }
    if (codes.empty()) continue;
    py::list times;
    for (const auto& bucket : counts.buckets) times.append(bucket.load());
    made[AsText(front::FactsOf(method).path)] = py::make_tuple(codes, times, counts.sum_us.load());
  }
  return made;
}

front::Bounds MakeBounds(const std::map<std::string, uint64_t>& given) {
  front::Bounds made;
  using Ms = front::Bounds::Ms;
  made.arrival = Ms(given.at("arrival_ms"));
  made.slow_reader = Ms(given.at("slow_reader_ms"));
  made.pipeline_idle = Ms(given.at("pipeline_idle_ms"));
  made.streams_per_namespace = given.at("streams_per_namespace");
  made.streams = given.at("streams");
  made.unread_bytes_per_namespace = given.at("unread_bytes_per_namespace");
  made.unread_bytes = given.at("unread_bytes");
  made.count_step_rows = given.at("count_step_rows");
  return made;
}

std::unique_ptr<PyFront> MakeFront(int listen_fd, std::string upstream_path, int threads, uint64_t value_bytes_max,
                                   bool tied, bool anonymous, int64_t connections_max, uint64_t clock_ms,
                                   const std::map<std::string, uint64_t>& bounds) {
  front::Descriptor listening(listen_fd);
  if (threads < 1) throw py::value_error("a front needs a thread");
  front::FrontOptions options;
  options.threads = threads;
  options.connections_max = connections_max;
  options.clock_ms = clock_ms;
  options.settings = {value_bytes_max, tied, anonymous, std::move(upstream_path), MakeBounds(bounds)};
  options.listen_fd = listening.Release();
  return std::make_unique<PyFront>(std::move(options));
}

void AddQuestions(py::class_<PyFront>& made) {
  made.def("questions_fd", [](PyFront& self) { return self.services().upcalls.fd(); });
  made.def("questions", &PyFront::Questions);
  made.def("admitted", &PyFront::Admitted, py::arg("number"), py::arg("namespace_id"), py::arg("rules"), py::kw_only(),
           py::arg("read_only"), py::arg("ends_at_ms"), py::arg("guard_key"), py::arg("guard_version"),
           py::arg("home_counts"));
  made.def("ready", [](PyFront& self, uint64_t number) { self.services().upcalls.AnswerReady(number); });
  made.def("failed", [](PyFront& self, uint64_t number, uint8_t code, uint16_t reason, const std::string& name,
                        const std::string& message, front::Metadata metadata, std::optional<uint64_t> retry_after_ms) {
    Failure failure = MakeFailure(code, reason, name, message, retry_after_ms);
    failure.metadata = std::move(metadata);
    self.services().upcalls.AnswerFailure(number, std::move(failure));
  });
}

void AddEnd(py::class_<PyFront>& made) {
  made.def("drain", [](PyFront& self, uint8_t code, uint16_t reason, const std::string& name,
                       const std::string& message, std::optional<uint64_t> retry_after_ms) {
    self.front().Drain(MakeFailure(code, reason, name, message, retry_after_ms));
  });
  made.def("cut", [](PyFront& self, uint8_t code, uint16_t reason, const std::string& name, const std::string& message,
                     std::optional<uint64_t> retry_after_ms) {
    self.front().Cut(MakeFailure(code, reason, name, message, retry_after_ms));
  });
  made.def("stop", &PyFront::Stop);
  made.def("abandon", &PyFront::Abandon);
}

}  // namespace

void AddFront(py::module_& module) {
  module.def("rules_permit", &RulesPermit, py::arg("rules"), py::arg("write"), py::arg("database"), py::arg("start"),
             py::arg("end"));
  py::class_<PyFront> made(module, "Front", py::is_final());
  made.def(py::init(&MakeFront), py::kw_only(), py::arg("listen_fd"), py::arg("upstream_path"), py::arg("threads"),
           py::arg("value_bytes_max"), py::arg("tied"), py::arg("anonymous"), py::arg("connections_max"),
           py::arg("clock_ms"), py::arg("bounds"));
  made.def("set_store", [](PyFront& self, py::handle engine) {
    std::shared_ptr<Store> store = engine.is_none() ? nullptr : StoreOf(engine);
    front::StoreSlot& slot = self.services().store;
    const Unlocked unlocked;  // The last reference to a store may go here.
    slot.Set(std::move(store));
  });
  made.def("set_tls", &PyFront::SetTls, py::arg("chain"), py::arg("key"), py::arg("client_ca"));
  made.def("hold_clock", [](PyFront& self, uint64_t now_ms) { self.services().clock.Hold(now_ms); });
  made.def("punt_writes", [](PyFront& self, bool punt) { self.services().punt_writes = punt; });
  made.def("start", [](PyFront& self) {
    Front& started = self.front();
    const Unlocked unlocked;
    started.Start();
  });
  AddQuestions(made);
  made.def("changed", &PyFront::Changed, py::arg("namespace_id").none(true));
  made.def("views", [](PyFront& self, uint64_t namespace_id) { return self.services().streams.views(namespace_id); });
  made.def("facts", &PyFront::Facts);
  made.def("waiting", &PyFront::Waiting);
  made.def("calls", &PyFront::Calls);
  made.def("running", &PyFront::Running);
  made.def("halt", &PyFront::Halt);
  AddEnd(made);
}

}  // namespace prefixdb::python
