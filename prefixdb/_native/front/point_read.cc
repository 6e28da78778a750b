#include "front/point_read.h"

#include "front/messages.h"
#include "read_habit.h"

namespace prefixdb::front {
namespace {

void Fill(const Found& found, Clock& clock, PointAnswer* answer) {
  const uint64_t now_ms = clock.now_ms();
  if (!found.value || found.value->ExpiredAt(now_ms)) return;  // The message of a row that is not there is empty.
  const RowFields row{found.value->payload, found.value->version, TtlMs(found.value->expires_at_ms, now_ms)};
  answer->message = GetResponse(&row);
  answer->value_bytes = row.value.size();
}

}  // namespace

bool AnswerFromMemory(Store& store, std::string_view key, Clock& clock, PointAnswer* answer) {
  thread_local ReadHabit habit;  // A loop is a thread.
  if (!habit.AsksMemory()) return false;
  Found found;
  bool decided = false;
  answer->outcome = store.GetFromMemory(key, &found, &decided);
  if (!answer->outcome.ok()) return true;
  habit.Note(decided);
  if (decided) Fill(found, clock, answer);
  return decided;
}

PointAnswer AnswerFromDisk(Store& store, std::string_view key, Clock& clock) {
  Found found;
  PointAnswer answer;
  answer.outcome = store.Get(key, &found);
  if (answer.outcome.ok()) Fill(found, clock, &answer);
  return answer;
}

}  // namespace prefixdb::front
