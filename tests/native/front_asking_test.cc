// Goal: whoever makes up tokens waits for himself: a connection has few questions open, however many calls it begins
// and resets, its other calls get their turn, and somebody else's new token is not refused for it.
//
// Method: as front_connection_test.cc; Python is played by the test, who lets questions wait.
#include "front/admission.h"
#include "front_stage.h"

namespace {

using namespace prefixdb::test;

Fields Bearing(const std::string& token) { return {{"authorization", "Bearer " + token}}; }

// Questions that are open once everything the client has sent was looked at.
size_t OpenAfter(Stage& stage, Client& client) {
  const int32_t last = client.Unary("/fake/Echo", "x");  // Refused without a question.
  client.Await(last);
  return stage.services.upcalls.waiting();
}

TEST_CASE("a connection has two questions open, and its other calls have their turn") {
  Stage stage;
  Client client(stage.Connect());
  std::vector<int32_t> calls;
  for (int i = 0; i < 10; ++i) calls.push_back(client.Unary("/fake/Echo", "x", Bearing("new-" + std::to_string(i))));
  CHECK(OpenAfter(stage, client) == Admission::kQuestionsMax);
  for (int i = 0; i < 10; ++i) {
    CHECK(stage.services.upcalls.waiting() <= Admission::kQuestionsMax);
    CHECK(stage.Admit().token == "new-" + std::to_string(i));
    CHECK(client.Await(calls[static_cast<size_t>(i)]).status() == 0);
  }
}

TEST_CASE("calls with one token need not ask again when they have had to wait") {
  Stage stage;
  Client client(stage.Connect());
  std::vector<int32_t> calls;
  for (int i = 0; i < 10; ++i) calls.push_back(client.Unary("/fake/Echo", "x", Bearing("same")));
  CHECK(OpenAfter(stage, client) == 1);
  stage.Admit();
  for (const int32_t call : calls) CHECK(client.Await(call).status() == 0);
  CHECK(stage.services.upcalls.waiting() == 0);
}

TEST_CASE("calls that are reset give nobody of their connection another question") {
  Stage stage;
  Client client(stage.Connect());
  for (int i = 0; i < 300; ++i) {
    const int32_t id = client.Unary("/fake/Echo", "x", Bearing("made-up-" + std::to_string(i)));
    client.Pump(0);
    client.Reset(id);
    client.Pump(0);
  }
  const int32_t good = client.Unary("/fake/Echo", "x", Bearing("good"));
  CHECK(OpenAfter(stage, client) == Admission::kQuestionsMax);
  for (size_t i = 0; i < Admission::kQuestionsMax; ++i) stage.Refuse(Reason::kTokenInvalid);
  CHECK(stage.Admit().token == "good");
  CHECK(client.Await(good).status() == 0);
}

TEST_CASE("crowds that make up tokens keep nobody's new token out") {
  Stage stage;
  std::vector<std::unique_ptr<Client>> crowd;
  for (int i = 0; i < 50; ++i) {
    crowd.push_back(std::make_unique<Client>(stage.Connect()));
    for (int j = 0; j < 60; ++j) {
      crowd.back()->Unary("/fake/Echo", "x", Bearing("made-up-" + std::to_string(i) + "-" + std::to_string(j)));
    }
    OpenAfter(stage, *crowd.back());
  }
  CHECK(stage.services.upcalls.waiting() == 50 * Admission::kQuestionsMax);
  Client honest(stage.Connect());
  const int32_t call = honest.Unary("/fake/Echo", "x", Bearing("good"));
  CHECK(OpenAfter(stage, honest) == 50 * Admission::kQuestionsMax + 1);
  for (size_t i = 0; i < 50 * Admission::kQuestionsMax; ++i) stage.Refuse(Reason::kTokenInvalid);
  CHECK(stage.Admit().token == "good");
  CHECK(honest.Await(call).status() == 0);
}

TEST_CASE("what is answered when its connection has gone is nobody's") {
  Stage stage;
  {
    Client client(stage.Connect());
    for (int i = 0; i < 5; ++i) client.Unary("/fake/Echo", "x", Bearing("new-" + std::to_string(i)));
    CHECK(OpenAfter(stage, client) == Admission::kQuestionsMax);
  }
  stage.Until([&] { return stage.services.metrics.connections.load() == 0; });
  for (size_t i = 0; i < Admission::kQuestionsMax; ++i) stage.Admit();
  Client other(stage.Connect());
  const int32_t call = other.Unary("/fake/Echo", "x", Bearing("another"));
  CHECK(OpenAfter(stage, other) == 1);
  stage.Admit();
  CHECK(other.Await(call).status() == 0);
}

}  // namespace
