// Goal: what a Pipeline meets that a unary call would hand to Python is settled with Python's help: another session,
// another namespace, another store, writes that are not taken, failures of the store.
//
// Method: the test changes sessions, the namespace's record and the store under way, and is Python; texts are those of
// prefixdb/service/writer.py.
#include "front_pipeline.h"

namespace prefixdb::front {

TEST_CASE("a caller who is let in again without any right is refused") {
  Rig rig;
  for (const bool reads : {false, true}) {
    const Piped pipe(rig, rig.Admit(7));
    pipe.call->readmit = [&] { return rig.Admit(7, {{0, "x", reads, false}}); };
    pipe.Ask(GetOp("a"));
    rig.services.changes.Changed(7);
    if (reads) {
      CHECK(pipe.Ask(PutOp("x", "v")).at(0).starts_with("NOT_PERMITTED"));
    } else {
      CHECK(pipe.End(GetOp("a")).starts_with("NOT_PERMITTED"));
    }
  }
}

TEST_CASE("writes whose namespace has changed are planned again with the rights that are left") {
  Rig rig;
  const Piped pipe(rig, rig.Admit(7));
  rig.ChangeRecord();
  pipe.call->readmit = [&] { return rig.Admit(7, {{std::nullopt, "w", true, true}}); };
  const auto results = pipe.Ask(PutOp("w1", "v") + PutOp("x", "v") + PutOp("", "v") + DeleteOp("w2") + GetOp("w1"));
  REQUIRE(results.size() == 5);
  CHECK(results[0].starts_with("+"));
  CHECK(results[1].starts_with("NOT_PERMITTED"));
  CHECK(results[2].starts_with("KEY_EMPTY"));
  CHECK(results[3].starts_with("+"));
  CHECK(results[4].starts_with("v@"));
  CHECK_FALSE(rig.opened.Get(RowKey7("x")));
  CHECK(pipe.call->readmissions == 1);

  rig.ChangeRecord();
  pipe.call->readmit = [&] { return nullptr; };
  CHECK(pipe.End(PutOp("w1", "new")).starts_with("TOKEN_REVOKED"));
  CHECK(rig.opened.Get(RowKey7("w1")) == "v");
}

TEST_CASE("a namespace that changes over and over lets go of the writer in the end") {
  Rig rig;
  const Piped pipe(rig, rig.Admit(7));
  pipe.call->readmit = [&] {
    Session wrong = *rig.Admit(7);
    wrong.guard_version += 1;
    return std::make_shared<const Session>(std::move(wrong));
  };
  rig.ChangeRecord();
  const auto results = pipe.Ask(PutOp("a", "v") + DeleteOp("b"));
  REQUIRE(results.size() == 2);
  CHECK(results[0] == "WRITE_STALL The namespace is being changed over and over; the write was not applied.");
  CHECK(results[1] == results[0]);
  CHECK(pipe.call->readmissions == 50);
  CHECK_FALSE(rig.opened.Get(RowKey7("a")));
}

TEST_CASE("a read-only namespace refuses the puts of a message and takes its deletes") {
  Rig rig;
  rig.opened.Put(RowKey7("a"), "v");
  const Piped pipe(rig, rig.Admit(7, {{std::nullopt, "", true, true}}, /*read_only=*/true));
  const auto results = pipe.Ask(PutOp("b", "v") + DeleteOp("a") + PutOp("", "v") + GetOp("a"));
  REQUIRE(results.size() == 4);
  CHECK(results[0] == "READ_ONLY The namespace is read-only: deletes are accepted, other writes are not.");
  CHECK(results[1].starts_with("+"));
  CHECK(results[2].starts_with("KEY_EMPTY"));
  CHECK(results[3] == "-");
}

TEST_CASE("while writes are Python's it is asked about each run of them") {
  Rig rig;
  rig.services.punt_writes = true;
  std::atomic<int> asked{0};
  rig.Python([&](Upcalls& upcalls, const Question& question) {
    const auto& ready = std::get<ReadyQuestion>(question.what);
    CHECK(ready.doing == Doing::kWrite);
    ++asked;
    if (ready.only_deletes) {
      upcalls.AnswerReady(question.number);
    } else {
      upcalls.AnswerFailure(question.number, Fail(Reason::kDiskFull));
    }
  });
  const Piped pipe(rig, rig.Admit(7));
  const auto results = pipe.Ask(DeleteOp("a") + DeleteOp("b") + GetOp("a") + PutOp("a", "v") + PutOp("", "v") +
                                DeleteOp("b") + GetOp("a"));
  REQUIRE(results.size() == 7);
  CHECK(results[0].starts_with("+"));
  CHECK(results[1].starts_with("+"));
  CHECK(results[3].starts_with("DISK_FULL"));
  CHECK(results[4].starts_with("KEY_EMPTY"));
  CHECK(results[5].starts_with("DISK_FULL"));
  CHECK(results[6] == "-");
  CHECK(asked == 2);
}

TEST_CASE("a store that is exchanged is waited for, by reads and by writes") {
  Rig rig;
  rig.opened.Put(RowKey7("a"), "v");
  std::atomic<int> asked{0};
  rig.Python([&](Upcalls& upcalls, const Question& question) {
    CHECK(std::holds_alternative<ReadyQuestion>(question.what));
    ++asked;
    rig.services.store.Set(rig.opened.shared());
    upcalls.AnswerReady(question.number);
  });
  const Piped pipe(rig, rig.Admit(7));
  for (const bool gone : {false, true}) {
    for (const std::string& operation : {GetOp("a"), Op(2, Field(1, "a")), PutOp("b", "v"), DeleteOp("b")}) {
      const std::shared_ptr<Store> old = rig.opened.shared();
      rig.opened.Reopen();
      rig.services.store.Set(gone ? nullptr : old);  // The old one is closed.
      const int before = asked;
      const auto results = pipe.Ask(operation);
      REQUIRE(results.size() == 1);
      CHECK((results[0].starts_with("v@") || results[0].starts_with("+")));
      CHECK(asked == before + 1);
    }
  }
  // And when there will be none, that is the operation's answer.
  rig.Python([&](Upcalls& upcalls, const Question& question) {
    upcalls.AnswerFailure(question.number, Fail(Reason::kReadOnlyStore));
  });
  rig.services.store.Set(nullptr);
  const auto results = pipe.Ask(GetOp("a") + PutOp("a", "v") + GetOp("a"));
  REQUIRE(results.size() == 3);
  for (const std::string& result : results) CHECK(result.starts_with("READ_ONLY_STORE"));
}

TEST_CASE("what the store's failures are Python says, and INTERNAL ends the stream and stops serving") {
  Rig rig;
  CHECK_FINE(rig.opened->PutRaw(RowKey7("a"), "\x7f"));
  rig.Python([&](Upcalls& upcalls, const Question& question) {
    if (std::holds_alternative<HaltQuestion>(question.what)) return;
    const auto& translate = std::get<TranslateQuestion>(question.what);
    CHECK(translate.outcome.fault == Fault::kDamagedRow);
    upcalls.AnswerFailure(question.number,
                          Fail(translate.doing == Doing::kRead ? Reason::kCorruption : Reason::kOutcomeUnknown));
  });
  const Piped pipe(rig, rig.Admit(7));
  const std::string if_absent = Op(3, Field(1, "a") + Field(5, Field(2, uint64_t{1})));
  const auto results = pipe.Ask(PutOp("b", "v") + GetOp("a") + Op(2, Field(1, "a")) + if_absent + GetOp("b"));
  REQUIRE(results.size() == 5);
  CHECK(results[1].starts_with("CORRUPTION"));
  CHECK(results[2].starts_with("CORRUPTION"));
  CHECK(results[3].starts_with("OUTCOME_UNKNOWN"));
  CHECK(results[4].starts_with("v@"));
  rig.Python([&](Upcalls& upcalls, const Question& question) {
    if (std::holds_alternative<TranslateQuestion>(question.what)) {
      upcalls.AnswerFailure(question.number, Fail(Reason::kInternal));
    }
  });
  CHECK(pipe.End(GetOp("a")).starts_with("INTERNAL"));
  CHECK(rig.services.halted);
}

TEST_CASE("a pipeline that is cut while something is under way is left alone") {
  Rig rig;
  rig.opened.Put(RowKey7("a"), "v");
  rig.Cool();
  for (const std::string& operation : {GetOp("a"), PutOp("b", "v"), Op(2, Field(1, "a"))}) {
    const Piped pipe(rig, rig.Admit(7));
    rig.OnLoop([&] {
      pipe.call->Message(operation);
      rig.loop.Post([call = pipe.call] {
        if (call->open()) call->Fail(Fail(Reason::kCancelled));
      });
    });
    pipe.call->Wait();
  }
  test::WaitFor([&] { return rig.services.streams.open() == 0; });
}

}  // namespace prefixdb::front
