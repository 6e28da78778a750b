// Goal: the unary methods answer as the Python services do, each check in its order, and hand over what they may not
// decide; no row is answered under a session that does not hold.
//
// Method: calls without a transport on a real store; the texts and numbers expected are those of prefixdb/service. What
// comes back from threads meets a session that was changed meanwhile.
#include <array>

#include "front/batch.h"
#include "front/methods.h"
#include "front_call.h"

namespace prefixdb::front {

namespace {

std::string RowKey7(std::string_view key, uint16_t database = 0) { return *EncodeDataKey(7, database, key); }

std::string Get(std::string_view key, uint64_t database = 0) { return Field(1, key) + Field(2, database); }

std::string Why(const Ending& ending) {
  if (ending.punted) return "punted";
  if (ending.failure) return ending.failure->name + ": " + ending.failure->message;
  return ending.reply ? "answered" : "ended";
}

}  // namespace

TEST_CASE("each native path is found, and nothing else") {
  for (size_t index = 0; index < kNativeMethods; ++index) {
    const NativeFacts& facts = FactsOf(static_cast<NativeMethod>(index));
    CHECK(FindNative(facts.path) == &facts);
    CHECK(FindNative(std::string(facts.path) + "x") == nullptr);
    CHECK(FindNative(facts.path.substr(0, facts.path.size() - 1)) == nullptr);
  }
  for (const char* path : {"", "/", "/prefixdb.v1.KeyValue/", "/prefixdb.v1.KeyValue/Got", "/prefixdb.v1.KeyValue/get",
                           "/prefixdb.v2.KeyValue/Get", "prefixdb.v1.KeyValue/Get", "/prefixdb.v1.Auth/WhoAmI"}) {
    CHECK(FindNative(path) == nullptr);
  }
}

TEST_CASE("Get answers the row of the caller's namespace and database, with what is left of its life") {
  Rig rig;
  const uint64_t version = rig.opened.Put(RowKey7("a"), "seven");
  rig.opened.Put(*EncodeDataKey(8, 0, "a"), "eight");
  rig.opened.Put(RowKey7("a", 3), "three");
  const uint64_t dying = rig.opened.Put(RowKey7("dying"), "", kNowMs + 9);
  rig.opened.Put(RowKey7("dead"), "x", kNowMs);
  const auto read = [&](std::string message) {
    const Ending ending = FakeCall::Make(rig, rig.Admit(7), std::move(message))->Run(NativeMethod::kGet);
    REQUIRE(ending.reply);
    return RowText(*ending.reply);
  };
  for (const bool cold : {false, true}) {
    CAPTURE(cold);
    if (cold) rig.Cool();
    CHECK(read(Get("a")) == "seven@" + std::to_string(version));
    CHECK(read(Get("a", 3)).starts_with("three@"));
    CHECK(read(Get("a", 4)) == "-");
    CHECK(read(Get("b")) == "-");
    CHECK(read(Get("dying")) == "@" + std::to_string(dying) + "+9");
    CHECK(read(Get("dead")) == "-");
  }
}

TEST_CASE("Get says what is wrong, in order: the token, the message, the key, the database, the right") {
  Rig rig;
  const auto ask = [&](std::string message, SessionPtr session) {
    return Why(FakeCall::Make(rig, std::move(session), std::move(message))->Run(NativeMethod::kGet));
  };
  const auto nobody = [&] { return rig.Admit(7, {{std::nullopt, "x", true, true}}); };
  CHECK(ask(Get("", 70'000), nobody()) == "KEY_EMPTY: A key needs at least one byte.");
  CHECK(ask(Get(std::string(4097, 'k'), 70'000), nobody()) ==
        "KEY_TOO_LARGE: The key has 4097 bytes; the limit is 4096.");
  CHECK(ask(Get("a", 65'536), nobody()) == "BAD_FIELD: database must be between 0 and 65535.");
  CHECK(ask(Get("a", 65'535), nobody()) == "NOT_PERMITTED: The token does not permit this.");
  CHECK(ask(Get("xa", 65'535), nobody()) == "answered");
  CHECK(ask(Get(std::string(4096, 'x')), nobody()) == "answered");
  CHECK(ask("\x0a", nobody()) == "punted");

  const SessionPtr stale = nobody();
  rig.services.changes.Changed(7);
  CHECK(ask(Get(""), stale) == "punted");
  const SessionPtr of_everyone = nobody();
  rig.services.changes.Changed(std::nullopt);
  CHECK(ask(Get("xa"), of_everyone) == "punted");
  rig.services.clock.Hold(kNowMs + 1'000);
  CHECK(ask(Get("xa"), nobody()) == "punted");
  rig.services.clock.Hold(kNowMs);
  rig.services.halted = true;
  CHECK(ask(Get("xa"), nobody()) == "punted");
}

TEST_CASE("what a worker has read is not answered when the session was changed meanwhile") {
  Rig rig;
  rig.opened.Put(RowKey7("a"), "v");
  rig.Cool();
  std::string many;
  for (int key = 0; key < 300; ++key) many += Field(1, "key" + std::to_string(key));
  const std::array<std::pair<NativeMethod, std::string>, 3> calls = {{
      {NativeMethod::kGet, Get("a")},
      {NativeMethod::kBatchGet, many},
      {NativeMethod::kCount, {}},
  }};
  for (const auto& [method, message] : calls) {
    const auto call = FakeCall::Make(rig, rig.Admit(7), message);
    call->after_begin = [&rig] { rig.services.changes.Changed(7); };
    CHECK(Why(call->Run(method)) == "punted");
  }
}

TEST_CASE("reads and writes of a store that is closed are handed over") {
  Rig rig;
  rig.opened->Close();
  for (const auto method : {NativeMethod::kGet, NativeMethod::kBatchGet, NativeMethod::kPut, NativeMethod::kDelete}) {
    CHECK(Why(FakeCall::Make(rig, rig.Admit(7), Field(1, "a"))->Run(method)) == "punted");
  }
  CHECK(Why(FakeCall::Make(rig, rig.Admit(7))->Run(NativeMethod::kCount)) == "punted");
  rig.services.store.Set(nullptr);
  for (const auto method : {NativeMethod::kGet, NativeMethod::kBatchGet, NativeMethod::kPut, NativeMethod::kDelete}) {
    CHECK(Why(FakeCall::Make(rig, rig.Admit(7), Field(1, "a"))->Run(method)) == "punted");
  }
}

TEST_CASE("a damaged row is Python's to judge") {
  Rig rig;
  CHECK_FINE(rig.opened->PutRaw(RowKey7("a"), "\x7f"));
  CHECK(Why(FakeCall::Make(rig, rig.Admit(7), Get("a"))->Run(NativeMethod::kGet)) == "punted");
  CHECK(Why(FakeCall::Make(rig, rig.Admit(7), Field(1, "a"))->Run(NativeMethod::kBatchGet)) == "punted");
  CHECK(Why(FakeCall::Make(rig, rig.Admit(7))->Run(NativeMethod::kCount)) == "punted");
}

TEST_CASE("BatchGet answers in the order of the request, equal keys and missing ones, from memory and from the disk") {
  Rig rig;
  const size_t step = Batch::StepKeys(rig.services.settings.value_bytes_max);
  REQUIRE(step == 128);
  std::map<std::string, std::string> model;
  for (uint64_t number = 0; number < 400; number += 2) {
    const std::string key = "key" + std::to_string(number);
    const std::string value = "value" + std::to_string(number);
    model[key] = value + "@" + std::to_string(rig.opened.Put(RowKey7(key), value));
  }
  rig.opened.Put(RowKey7("dead"), "x", kNowMs);
  test::Seeded random;
  for (int round = 0; round < 24; ++round) {
    if (round % 6 == 5) rig.Cool();
    const std::array<size_t, 8> sizes = {0, 1, 2, 8, 9, step, step + 1, 1'000};
    const size_t count = sizes[random.Below(sizes.size())];
    std::string message;
    std::vector<std::string> keys;
    for (size_t index = 0; index < count; ++index) {
      keys.push_back(random.Below(20) == 0 ? "dead" : "key" + std::to_string(random.Below(400)));
      message += Field(1, keys.back());
    }
    const Ending ending = FakeCall::Make(rig, rig.Admit(7), message)->Run(NativeMethod::kBatchGet);
    REQUIRE(ending.reply);
    const Taken answer(*ending.reply);
    const auto rows = answer.bytes.contains(1) ? answer.bytes.at(1) : std::vector<std::string>();
    REQUIRE(rows.size() == count);
    for (size_t index = 0; index < count; ++index) {
      CHECK(RowText(rows[index]) == (model.contains(keys[index]) ? model.at(keys[index]) : "-"));
    }
  }
  test::WaitFor([&] { return rig.services.streams.open() == 0; });
}

TEST_CASE("BatchGet refuses what is too much, and the whole request for one key") {
  Rig rig;
  const auto ask = [&](const std::string& message, SessionPtr session) {
    return Why(FakeCall::Make(rig, std::move(session), message)->Run(NativeMethod::kBatchGet));
  };
  std::string many;
  for (uint64_t count = 0; count <= kBatchKeysMax; ++count) many += Field(1, "");
  CHECK(ask(many, rig.Admit(7)) == "BATCH_TOO_LARGE: The request has 10001 keys; the limit is 10000.");
  const std::string two = Field(1, "x") + Field(1, "");
  CHECK(ask(two, rig.Admit(7, {{std::nullopt, "y", true, false}})) == "KEY_EMPTY: A key needs at least one byte.");
  const std::string other = Field(1, "y") + Field(1, "x");
  CHECK(ask(other, rig.Admit(7, {{std::nullopt, "y", true, false}})) ==
        "NOT_PERMITTED: The token does not permit this.");
  CHECK(ask(Field(2, uint64_t{70'000}), rig.Admit(7)) == "answered");  // No key, no database.

  // Sixteen values of a mebibyte are more than an answer carries; so is one of them, sixteen times.
  const std::string large(1 << 20, 'v');
  std::string different;
  std::string equal;
  for (int number = 0; number < 16; ++number) {
    const std::string key = "key" + std::to_string(number);
    rig.opened.Put(RowKey7(key), large);
    different += Field(1, key);
    equal += Field(1, "key0");
  }
  const std::string refusal =
      "BATCH_TOO_LARGE: The answer would have more than 15728640 bytes; ask for fewer keys at once.";
  CHECK(ask(different, rig.Admit(7)) == refusal);
  CHECK(ask(equal, rig.Admit(7)) == refusal);
  for (int number = 0; number < 200; ++number) different += Field(1, "n" + std::to_string(number));
  CHECK(ask(different, rig.Admit(7)) == refusal);  // Measured, not read.
}

TEST_CASE("large BatchGets and Counts take a stream's place, and fail without one") {
  Rig rig;
  std::vector<Streams::Slot> slots;
  for (uint64_t number = 0; number < kStreamsPerNamespaceMax; ++number) {
    slots.push_back(rig.services.streams.Open(7));
  }
  std::string many;
  for (int key = 0; key < 129; ++key) many += Field(1, "key" + std::to_string(key));
  CHECK(Why(FakeCall::Make(rig, rig.Admit(7), many)->Run(NativeMethod::kBatchGet)) ==
        "TOO_MANY_STREAMS: Too many open streams; close some.");
  CHECK(Why(FakeCall::Make(rig, rig.Admit(7))->Run(NativeMethod::kCount)).starts_with("TOO_MANY_STREAMS"));
  CHECK(Why(FakeCall::Make(rig, rig.Admit(8), many)->Run(NativeMethod::kBatchGet)) == "answered");
  // Equal keys are read once, so these are no large batch.
  std::string few;
  for (int key = 0; key < 10'000; ++key) few += Field(1, "key" + std::to_string(key % 128));
  CHECK(Why(FakeCall::Make(rig, rig.Admit(7), few)->Run(NativeMethod::kBatchGet)) == "answered");
}

TEST_CASE("Count counts what lives in the range, at one instant") {
  Rig rig;
  test::Request request;
  request.Begin();
  for (uint64_t number = 0; number < 40'000; ++number) {
    request.Put(RowKey7("k" + std::to_string(number)), "", number % 10 == 0 ? kNowMs : 0);
  }
  request.Put(*EncodeDataKey(7, 1, "k"), "").Put(*EncodeDataKey(8, 0, "k"), "");
  rig.opened.Commit(std::move(request));
  const auto count = [&](std::string message, SessionPtr session) {
    const Ending ending = FakeCall::Make(rig, std::move(session), std::move(message))->Run(NativeMethod::kCount);
    return ending.reply ? std::to_string(Taken(*ending.reply).number(1)) : Why(ending);
  };
  CHECK(count({}, rig.Admit(7)) == "36000");
  CHECK(count(Field(2, uint64_t{1}), rig.Admit(7)) == "1");
  CHECK(count(Field(2, uint64_t{2}), rig.Admit(7)) == "0");
  const std::string by_prefix = Field(1, Field(1, "k1"));
  CHECK(count(by_prefix, rig.Admit(7, {{0, "k", true, false}})) == "10000");
  CHECK(count({}, rig.Admit(7, {{0, "k", true, false}})) == "NOT_PERMITTED: The token does not permit this.");
  const std::string both = Field(1, Field(1, "k") + Field(2, "k"));
  CHECK(count(both, rig.Admit(7)) == "BAD_RANGE: A range has either a prefix or bounds, not both.");
  const std::string inverted = Field(1, Field(2, "b") + Field(3, "a"));
  CHECK(count(inverted, rig.Admit(7)).starts_with("BAD_RANGE: The range is inverted"));
  const std::string long_bound = Field(1, Field(2, std::string(4098, 'b')));
  CHECK(count(long_bound, rig.Admit(7)) == "KEY_TOO_LARGE: The key has 4098 bytes; the limit is 4096.");
  test::WaitFor([&] { return rig.services.streams.open() == 0; });
}

}  // namespace prefixdb::front
