// Goal: what a call keeps, of what it says and of what it is sent, is what is there: nothing of what has gone.
//
// Method: answers that are taken a little at a time, so that something is always left; accounts that are used up.
#include "front/intake.h"
#include "front/outbox.h"
#include "support.h"

namespace {

using prefixdb::front::Account;
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

}  // namespace
