// Goal: a call through the front ends as gRPC and the Python server's gate say, whatever its client and whatever the
// pieces its bytes come in; nothing of it is left when it is over.
//
// Method: a gateway on a loop over socket pairs, a client made of nghttp2, and methods, Python and the server behind
// played by the test. What waits, waits for a condition.
#include "front_stage.h"

namespace {

using namespace prefixdb::test;

TEST_CASE("a call is admitted by Python once and then by memory, and answered") {
  Stage stage;
  Client client(stage.Connect());
  const int32_t first = client.Unary("/fake/Echo", "hello", kToken);
  client.Pump();
  const AdmitQuestion question = stage.Admit();
  CHECK(question.token == "good");
  const Answer& answer = client.Await(first);
  CHECK(answer.Field(":status") == "200");
  CHECK(answer.Field("content-type") == "application/grpc");
  CHECK(answer.status() == 0);
  REQUIRE(answer.Messages().size() == 1);
  CHECK(answer.Messages()[0] == "hello");
  const Answer& second = client.Await(client.Unary("/fake/Echo", "again", kToken));
  CHECK(second.Messages()[0] == "again");
  Client other(stage.Connect());
  CHECK(other.Await(other.Unary("/fake/Echo", "there", kToken)).Messages()[0] == "there");
  CHECK(stage.services.upcalls.waiting() == 0);
  CHECK(stage.Ended(NativeMethod::kGet, 0) == 3);
}

}  // namespace
