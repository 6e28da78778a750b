// Goal: a Pipeline answers each message with one result for each operation, in order, each operation seeing those
// before it; one bad operation fails alone, and what cannot be handed to Python is settled with Python's help.
//
// Method: messages of random operations against a model, from memory and from the disk; texts are those of
// prefixdb/service/pipeline.py. Clients that send much at once, take nothing, or may not what they ask for.
#include "front_pipeline.h"

namespace prefixdb::front {

TEST_CASE("each operation sees those before it, and results come in order") {
  Rig rig;
  const Piped pipe(rig, rig.Admit(7));
  std::map<std::string, std::string> model;
  test::Seeded random;
  for (int round = 0; round < 60; ++round) {
    if (round % 10 == 9) rig.Cool();
    std::string message = Field(1, static_cast<uint64_t>(round));
    std::vector<std::string> expected;
    for (uint64_t count = random.Below(30); count > 0; --count) {
      const std::string key = "k" + std::to_string(random.Below(8));
      const std::string there = model.contains(key) ? model[key] : "-";
      switch (random.Below(6)) {
        case 0:
          message += GetOp(key);
          expected.push_back(there);
          break;
        case 1:
          message += Op(2, Field(1, key) + Field(1, "none") + Field(1, key));
          expected.push_back(there + ",-," + there);
          break;
        case 2:
          message += DeleteOp(key);
          expected.push_back("+");
          model.erase(key);
          break;
        case 3:
          message +=
              Op(5, Field(1, Field(2, Field(1, key))) + Field(2, Field(1, "none") + Field(3, Field(3, uint64_t{1}))));
          expected.push_back("-0");
          break;
        case 4:
          message += PutOp("", "v");
          expected.push_back("KEY_EMPTY A key needs at least one byte.");
          break;
        default:
          model[key] = "v" + std::to_string(random.Below(1'000));
          message += PutOp(key, model[key]);
          expected.push_back("+");
      }
    }
    const auto results = pipe.Ask(message);
    REQUIRE(results.size() == expected.size());
    for (size_t index = 0; index < results.size(); ++index) {
      CHECK(WithoutVersions(results[index]) == expected[index]);
    }
    CHECK(Taken(pipe.call->sent().back()).number(1) == static_cast<uint64_t>(round));
  }
  pipe.call->HalfClose();
  CHECK(pipe.call->Wait().ended);
  test::WaitFor([&] { return rig.services.streams.open() == 0; });
}

TEST_CASE("messages that are there already are answered one after the other, without the stack growing with them") {
  Rig rig;
  const Piped pipe(rig, rig.Admit(7));
  rig.OnLoop([&] {
    for (uint64_t number = 0; number < 20'000; ++number) pipe.call->Message(Field(1, number) + GetOp("a"));
    pipe.call->HalfClose();
  });
  CHECK(pipe.call->Wait().ended);
  const auto sent = pipe.call->sent();
  REQUIRE(sent.size() == 20'000);
  for (uint64_t number = 0; number < sent.size(); ++number) CHECK(Taken(sent[number]).number(1) == number);
}

TEST_CASE("a client that takes no answers gets no more of them") {
  Rig rig;
  rig.opened.Put(RowKey7("a"), std::string(100'000, 'v'));
  const auto call = FakeCall::Make(rig, rig.Admit(7));
  call->client_takes = false;
  call->Start(NativeMethod::kPipeline);
  for (int count = 0; count < 3; ++count) call->Message(GetOp("a"));
  call->WaitForSent(1);
  for (int pass = 0; pass < 3; ++pass) rig.OnLoop([] {});
  CHECK(call->sent().size() == 1);
  call->Take();
  call->WaitForSent(2);
}

TEST_CASE("what is wrong with a message ends the stream; what is wrong with an operation does not") {
  Rig rig;
  const std::string no_message = "BAD_FIELD: The request is not a message of its type.";
  CHECK(Piped(rig, rig.Admit(7)).End("\x0a") == no_message);
  CHECK(Piped(rig, rig.Admit(7)).End(GetOp("a") + Field(2, Field(3, "\x0a"))) == no_message);
  std::string many;
  for (uint64_t count = 0; count <= kPipelineOperationsMax; ++count) many += GetOp("a");
  CHECK(Piped(rig, rig.Admit(7)).End(many) == "BATCH_TOO_LARGE: The message has 1001 operations; the limit is 1000.");

  const Piped pipe(rig, rig.Admit(7, {{std::nullopt, "w", true, true}}));
  const std::string denied = "NOT_PERMITTED The token does not permit this.";
  const auto results = pipe.Ask(PutOp("w", "v") + PutOp("x", "v") + Field(2, "") + GetOp("x") + GetOp("") +
                                Op(2, Field(1, "x")) + DeleteOp("x"));
  REQUIRE(results.size() == 7);
  CHECK(results[0].starts_with("+"));
  CHECK(results[1] == denied);
  CHECK(results[2] == "BAD_FIELD operations must each have an operation.");
  CHECK(results[3] == denied);
  CHECK(results[4] == "KEY_EMPTY A key needs at least one byte.");
  CHECK(results[5] == denied);
  CHECK(results[6] == denied);

  std::vector<Streams::Slot> slots;
  for (uint64_t number = 0; number < kStreamsPerNamespaceMax; ++number) slots.push_back(rig.services.streams.Open(8));
  CHECK(Piped(rig, rig.Admit(8)).End({}).starts_with("TOO_MANY_STREAMS"));
}

TEST_CASE("a response carries no more than one may") {
  Rig rig;
  rig.opened.Put(RowKey7("a"), std::string(5 << 20, 'v'));
  const Piped pipe(rig, rig.Admit(7));
  const std::string too_large = "BATCH_TOO_LARGE The response would be too large; ask for less in one message.";
  const auto gets = pipe.Ask(GetOp("a") + GetOp("a") + GetOp("a") + GetOp("b"));
  REQUIRE(gets.size() == 4);
  CHECK(gets[1].starts_with("vvv"));
  CHECK(gets[2] == too_large);
  CHECK(gets[3] == "-");
  const auto batches = pipe.Ask(GetOp("a") + GetOp("a") + Op(2, Field(1, "a")));
  REQUIRE(batches.size() == 3);
  CHECK(batches[2].starts_with("BATCH_TOO_LARGE The answer would have more than 5242688 bytes;"));
}

TEST_CASE("the token is looked at before each message, after waits and before the answer") {
  Rig rig;
  {
    const Piped pipe(rig, rig.Admit(7));
    pipe.Ask(PutOp("a", "v"));
    rig.services.changes.Changed(7);
    CHECK(pipe.End("\x0a").starts_with("TOKEN_REVOKED"));
  }
  {
    const Piped pipe(rig, rig.Admit(7));
    pipe.call->readmit = [&] { return rig.Admit(7, {{std::nullopt, "w", true, true}}); };
    pipe.Ask(GetOp("a"));
    rig.services.changes.Changed(7);
    CHECK(pipe.Ask(GetOp("a") + GetOp("w")).at(0).starts_with("NOT_PERMITTED"));
    CHECK(pipe.call->readmissions == 1);
  }
  // Read from the disk while the rights go: not answered.
  rig.opened.Put(RowKey7("w"), "v");
  rig.Cool();
  for (const std::string& operation : {GetOp("a"), Op(2, Field(1, "a"))}) {
    const Piped pipe(rig, rig.Admit(7));
    pipe.call->readmit = [&] { return rig.Admit(7, {{std::nullopt, "w", true, true}}); };
    rig.OnLoop([&] {
      pipe.call->Message(operation);  // In the next pass; in it also the change. What a worker posts comes later.
      rig.loop.Post([&] { rig.services.changes.Changed(7); });
    });
    pipe.call->WaitForSent(1);
    CHECK(Results(pipe.call->sent()[0]).at(0) == "NOT_PERMITTED The token does not permit this.");
    CHECK(pipe.call->readmissions == 1);
    rig.Cool();
  }
}

}  // namespace prefixdb::front
