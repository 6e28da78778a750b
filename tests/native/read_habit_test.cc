// Goal: reads ask memory first as long as it answers now and then, and find back to it when it has become warm.
// Method: sequences of answers.
#include "read_habit.h"

#include "support.h"

namespace {

using prefixdb::ReadHabit;

// The share of `reads` that ask memory when it never answers.
int AskedOf(ReadHabit* habit, int reads) {
  int asked = 0;
  for (int read = 0; read < reads; ++read) {
    if (!habit->AsksMemory()) continue;
    ++asked;
    habit->Note(false);
  }
  return asked;
}

TEST_CASE("memory is asked first as long as it answers") {
  ReadHabit habit;
  for (int read = 0; read < 1000; ++read) {
    REQUIRE(habit.AsksMemory());
    habit.Note(read % 10 == 0);
  }
}

TEST_CASE("after a run of misses only one read in sixteen asks") {
  ReadHabit habit;
  CHECK(AskedOf(&habit, 16) == 16);
  CHECK(AskedOf(&habit, 1600) == 100);
}

TEST_CASE("one answer brings the habit back") {
  ReadHabit habit;
  AskedOf(&habit, 100);
  while (!habit.AsksMemory()) {
  }
  habit.Note(true);
  CHECK(AskedOf(&habit, 16) == 16);
}

}  // namespace
