#include "front/messages.h"

#include <utility>

namespace prefixdb::front {
namespace {

// A field of a oneof: goes on with the one that is there, or begins a new one.
template <typename Wanted, typename Variant>
Wanted* Begin(Variant* oneof) {
  Wanted* const there = std::get_if<Wanted>(oneof);
  return there != nullptr ? there : &oneof->template emplace<Wanted>();
}

bool Read(WireReader reader, GetRequest* request) {
  while (reader.Next()) {
    switch (reader.tag()) {
      case BytesTag(1):
        request->key = reader.bytes();
        break;
      case NumberTag(2):
        request->database = reader.low_number();
        break;
    }
  }
  return reader.ok();
}

bool Read(WireReader reader, BatchGetRequest* request) {
  while (reader.Next()) {
    switch (reader.tag()) {
      case BytesTag(1):
        if (++request->keys_sent <= kBatchKeysMax) request->keys.push_back(reader.bytes());
        break;
      case NumberTag(2):
        request->database = reader.low_number();
        break;
    }
  }
  return reader.ok();
}

bool Read(WireReader reader, TestField* test) {
  using Which = TestField::Which;
  while (reader.Next()) {
    switch (reader.tag()) {
      case NumberTag(1):
        *test = {.which = Which::kVersion, .version = reader.number()};
        break;
      case NumberTag(2):
        *test = {.which = Which::kAbsent, .is_true = reader.number() != 0};
        break;
      case NumberTag(3):
        *test = {.which = Which::kExists, .is_true = reader.number() != 0};
        break;
      case BytesTag(4):
        *test = {.which = Which::kValue, .value = reader.bytes()};
        break;
    }
  }
  return reader.ok();
}

// `condition`: of a request; null for what is part of a Mutation, which has none.
bool ReadCondition(WireReader reader, std::optional<TestField>* condition) {
  if (condition == nullptr) return true;
  if (!condition->has_value()) condition->emplace();
  return Read(reader, &**condition);
}

bool ReadPut(WireReader reader, PutFields* put, std::optional<TestField>* condition) {
  while (reader.Next()) {
    switch (reader.tag()) {
      case BytesTag(1):
        put->key = reader.bytes();
        break;
      case BytesTag(2):
        put->value = reader.bytes();
        break;
      case NumberTag(3):
        put->database = reader.low_number();
        break;
      case NumberTag(4):
        put->ttl_ms = reader.number();
        break;
      case BytesTag(5):
        if (!ReadCondition(reader.message(), condition)) return false;
        break;
    }
  }
  return reader.ok();
}

bool ReadDelete(WireReader reader, DeleteFields* deletion, std::optional<TestField>* condition) {
  while (reader.Next()) {
    switch (reader.tag()) {
      case BytesTag(1):
        deletion->key = reader.bytes();
        break;
      case NumberTag(2):
        deletion->database = reader.low_number();
        break;
      case BytesTag(3):
        if (!ReadCondition(reader.message(), condition)) return false;
        break;
    }
  }
  return reader.ok();
}

bool Read(WireReader reader, PutRequest* request) { return ReadPut(reader, request, &request->condition); }
bool Read(WireReader reader, DeleteRequest* request) { return ReadDelete(reader, request, &request->condition); }

bool Read(WireReader reader, KeyRange* range) {
  while (reader.Next()) {
    switch (reader.tag()) {
      case BytesTag(1):
        range->prefix = reader.bytes();
        break;
      case BytesTag(2):
        range->start = reader.bytes();
        break;
      case BytesTag(3):
        range->end = reader.bytes();
        break;
    }
  }
  return reader.ok();
}

// DeleteRange and CountRequest are alike.
template <typename Request>
bool ReadRange(WireReader reader, Request* request) {
  while (reader.Next()) {
    switch (reader.tag()) {
      case BytesTag(1):
        if (!Read(reader.message(), &request->range)) return false;
        break;
      case NumberTag(2):
        request->database = reader.low_number();
        break;
    }
  }
  return reader.ok();
}

bool Read(WireReader reader, MutationField* mutation) {
  while (reader.Next()) {
    bool read = true;
    switch (reader.tag()) {
      case BytesTag(1):
        read = ReadPut(reader.message(), Begin<PutFields>(mutation), nullptr);
        break;
      case BytesTag(2):
        read = ReadDelete(reader.message(), Begin<DeleteFields>(mutation), nullptr);
        break;
      case BytesTag(3):
        read = ReadRange(reader.message(), Begin<DeleteRangeFields>(mutation));
        break;
    }
    if (!read) return false;
  }
  return reader.ok();
}

bool Read(WireReader reader, ConditionField* condition) {
  while (reader.Next()) {
    switch (reader.tag()) {
      case BytesTag(1):
        condition->key = reader.bytes();
        break;
      case NumberTag(2):
        condition->database = reader.low_number();
        break;
      case BytesTag(3):
        if (!Read(reader.message(), &condition->test)) return false;
        break;
    }
  }
  return reader.ok();
}

bool Read(WireReader reader, WriteRequest* request) {
  while (reader.Next()) {
    switch (reader.tag()) {
      case BytesTag(1): {
        MutationField mutation;
        if (!Read(reader.message(), &mutation)) return false;
        if (++request->mutations_sent <= kWriteMutationsMax) request->mutations.push_back(mutation);
        break;
      }
      case BytesTag(2): {
        ConditionField condition;
        if (!Read(reader.message(), &condition)) return false;
        if (++request->conditions_sent <= kWriteConditionsMax) request->conditions.push_back(condition);
        break;
      }
    }
  }
  return reader.ok();
}

bool Read(WireReader reader, ScanRequest* request) {
  while (reader.Next()) {
    switch (reader.tag()) {
      case BytesTag(1):
        if (!Read(reader.message(), &request->range)) return false;
        break;
      case NumberTag(2):
        request->database = reader.low_number();
        break;
      case NumberTag(3):
        request->reverse = reader.number() != 0;
        break;
      case NumberTag(4):
        request->limit = reader.number();
        break;
      case NumberTag(5):
        request->keys_only = reader.number() != 0;
        break;
      case BytesTag(6):
        request->resume_after = reader.bytes();
        break;
    }
  }
  return reader.ok();
}

bool Read(WireReader reader, Operation* operation) {
  while (reader.Next()) {
    bool read = true;
    switch (reader.tag()) {
      case BytesTag(1):
        read = Read(reader.message(), Begin<GetRequest>(operation));
        break;
      case BytesTag(2):
        read = Read(reader.message(), Begin<BatchGetRequest>(operation));
        break;
      case BytesTag(3):
        read = Read(reader.message(), Begin<PutRequest>(operation));
        break;
      case BytesTag(4):
        read = Read(reader.message(), Begin<DeleteRequest>(operation));
        break;
      case BytesTag(5):
        read = Read(reader.message(), Begin<WriteRequest>(operation));
        break;
    }
    if (!read) return false;
  }
  return reader.ok();
}

bool Read(WireReader reader, PipelineRequest* request) {
  while (reader.Next()) {
    switch (reader.tag()) {
      case NumberTag(1):
        request->id = reader.number();
        break;
      case BytesTag(2): {
        // Only looked at: all of them at once could be many times the message.
        Operation operation;
        if (!Read(reader.message(), &operation)) return false;
        if (++request->operations_sent <= kPipelineOperationsMax) request->operations.push_back(reader.bytes());
        break;
      }
    }
  }
  return reader.ok();
}

}  // namespace

bool Parse(std::string_view bytes, GetRequest* request) { return Read(WireReader(bytes), request); }
bool Parse(std::string_view bytes, BatchGetRequest* request) { return Read(WireReader(bytes), request); }
bool Parse(std::string_view bytes, PutRequest* request) { return Read(WireReader(bytes), request); }
bool Parse(std::string_view bytes, DeleteRequest* request) { return Read(WireReader(bytes), request); }
bool Parse(std::string_view bytes, WriteRequest* request) { return Read(WireReader(bytes), request); }
bool Parse(std::string_view bytes, ScanRequest* request) { return Read(WireReader(bytes), request); }
bool Parse(std::string_view bytes, CountRequest* request) { return ReadRange(WireReader(bytes), request); }
bool Parse(std::string_view bytes, PipelineRequest* request) { return Read(WireReader(bytes), request); }
bool Parse(std::string_view bytes, Operation* operation) {
  return Read(WireReader(bytes, WireReader::kDepthMax - 1), operation);
}

}  // namespace prefixdb::front
