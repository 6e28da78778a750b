// Goal: what a call keeps, of what it says and of what it is sent, is what is there: nothing of what has gone.
//
// Method: answers that are taken a little at a time, so that something is always left; accounts that are used up.
#include "front/intake.h"
#include "front/outbox.h"
#include "support.h"

namespace {

using prefixdb::front::Account;
using prefixdb::front::Intake;
using prefixdb::front::kMessageHeadBytes;
using prefixdb::front::Outbox;

TEST_CASE("messages that have gone cost nothing, though another one always waits") {
  Outbox outbox;
  const std::string message = "message";
  std::string out;
  std::string expected;
  size_t most = 0;
  for (int each = 0; each < 3; ++each) outbox.PushMessage(message);
  for (int turn = 0; turn < 100'000; ++turn) {
    outbox.PushMessage(message + std::to_string(turn));
    out.clear();
    expected.clear();
    const std::string next = turn < 3 ? message : message + std::to_string(turn - 3);
    prefixdb::front::AppendMessageHead(next.size(), &expected);
    REQUIRE(outbox.Pop(kMessageHeadBytes + next.size(), &out) == 1);
    REQUIRE(out == expected + next);
    most = std::max(most, outbox.pieces());
  }
  CHECK(most < 1000);
}

TEST_CASE("who was favoured when there was no room, and has nothing here any more, makes way for the next") {
  nghttp2_session* session = nullptr;
  nghttp2_session_callbacks* callbacks = nullptr;
  REQUIRE(nghttp2_session_callbacks_new(&callbacks) == 0);
  REQUIRE(nghttp2_session_server_new(&session, callbacks, nullptr) == 0);
  Account account(1000, nullptr);
  Intake full(session, &account, 1);
  Intake passing(session, &account, 3);  // A call that is passed on: it never has a whole message.
  Intake waiting(session, &account, 5);
  full.Arrive(1000);
  passing.Arrive(100);
  CHECK(account.held() == 1100);
  waiting.Arrive(100);
  CHECK(account.held() == 1100);
  CHECK(!waiting.HasRoom());
  passing.Leave(60);
  CHECK(!waiting.HasRoom());
  passing.Leave(40);
  CHECK(waiting.HasRoom());
  CHECK(account.held() == 1100);
  for (Intake* const each : {&full, &passing, &waiting}) each->LeaveAll();
  CHECK(account.held() == 0);
  nghttp2_session_del(session);
  nghttp2_session_callbacks_del(callbacks);
}

}  // namespace
