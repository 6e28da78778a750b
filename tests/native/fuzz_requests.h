// Requests of the KeyValue service, made of an input's decisions: nearly always messages that mean something, of keys
// that there are, so that what comes behind the parser is reached; now and then any bytes at all.
#pragma once

#include <string>
#include <string_view>

#include "front/metrics.h"
#include "front/wire.h"
#include "fuzz.h"

namespace prefixdb::test {

inline std::string BytesField(uint32_t number, std::string_view bytes) {
  std::string field;
  front::AppendLengthHead(number, bytes.size(), &field);
  return field.append(bytes);
}
inline std::string NumberField(uint32_t number, uint64_t value) {
  std::string field;
  front::AppendNumberField(number, value, &field);
  return field;
}

// Each part is made before the next one: compilers differ in what they evaluate first in `a + b`, and an input means
// the same with all of them.
class RequestMaker {
  static constexpr size_t kMessageBytesMax = 200'000;

 public:
  explicit RequestMaker(Decisions* input) : input_(*input) {}

  std::string Make(front::NativeMethod method) {
    using front::NativeMethod;
    std::string made;
    if (input_.Below(16) == 15) return Text();
    switch (method) {
      case NativeMethod::kGet:
        AddKey(&made);
        AddDatabase(2, &made);
        break;
      case NativeMethod::kBatchGet:
        AddBatchGet(&made);
        break;
      case NativeMethod::kPut:
        AddPut(&made);
        AddCondition(5, &made);
        break;
      case NativeMethod::kDelete:
        AddKey(&made);
        AddDatabase(2, &made);
        AddCondition(3, &made);
        break;
      case NativeMethod::kWrite:
        AddWrite(&made);
        break;
      case NativeMethod::kScan:
        AddScan(&made);
        break;
      case NativeMethod::kCount:
        AddRange(&made);
        AddDatabase(2, &made);
        break;
      case NativeMethod::kPipeline:
        AddPipeline(&made);
    }
    return made;
  }

 private:
  std::string Text() {
    const auto bytes = input_.Bytes(2000);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  std::string KeyText() {
    constexpr std::string_view kKnown[] = {"a", "k000", "k001", "k149", "big", "big2", "dead", "dying", "k", "b"};
    const size_t which = input_.Below(16);
    if (which < std::size(kKnown)) return std::string(kKnown[which]);
    if (which == 10) return "";
    if (which == 11) return std::string(4095 + input_.Below(3), 'L');
    if (which == 12) return "\xff\xff";
    if (which == 13) return "k0" + std::to_string(input_.Below(100));
    return Text();
  }
  void AddKey(std::string* to) { *to += BytesField(1, KeyText()); }
  void AddDatabase(uint32_t field, std::string* to) {
    constexpr uint64_t kThere[] = {0, 0, 0, 0, 1, 65'535, 65'536, UINT64_MAX};
    *to += NumberField(field, kThere[input_.Below(8)]);
  }
  void AddRange(std::string* to) {
    // Which of prefix, start and end there are.
    constexpr uint8_t kParts[] = {0, 1, 2, 4, 6, 7};
    const uint8_t parts = kParts[input_.Below(6)];
    if (parts == 0) return;
    std::string range;
    for (uint32_t field = 1; field <= 3; ++field) {
      if ((parts >> (field - 1) & 1) != 0) range += BytesField(field, KeyText());
    }
    *to += BytesField(1, range);
  }
  void AddScan(std::string* to) {
    constexpr uint64_t kLimits[] = {0, 1, 5, 100, 101, 1'000, UINT32_MAX, UINT64_MAX};
    AddRange(to);
    AddDatabase(2, to);
    *to += NumberField(3, input_.Below(2));
    *to += NumberField(4, kLimits[input_.Below(8)]);
    *to += NumberField(5, input_.Below(2));
    if (input_.Below(4) == 3) *to += BytesField(6, KeyText());
  }
  void AddCondition(uint32_t field, std::string* to) {
    switch (input_.Below(8)) {
      case 0:
        *to += BytesField(field, NumberField(1, input_.Byte()));
        break;
      case 1:
        *to += BytesField(field, NumberField(2, 1));
        break;
      case 2:
        *to += BytesField(field, NumberField(3, 1));
        break;
      case 3:
        *to += BytesField(field, BytesField(4, input_.Below(2) == 0 ? "first" : Text()));
        break;
      case 4:
        *to += BytesField(field, "");
        break;
      default:
        break;
    }
  }
  void AddPut(std::string* to) {
    constexpr size_t kSizes[] = {1, 200, 5'000, 70'000};
    constexpr uint64_t kTtls[] = {0, 1, 1'000, UINT64_MAX};
    const uint8_t how = input_.Byte();
    const std::string value = (how & 4) != 0 ? Text() : std::string(kSizes[how & 3], 'p');
    AddKey(to);
    *to += BytesField(2, value);
    AddDatabase(3, to);
    *to += NumberField(4, kTtls[how >> 6]);
  }
  void AddBatchGet(std::string* to) {
    AddDatabase(2, to);
    const size_t how = input_.Below(16);
    const size_t times = how == 15 ? 1'000 : 1;  // Equal keys are read once, and answered each time.
    for (size_t number = 0; how == 14 && number < 150; ++number) {
      *to += BytesField(1, "k" + std::to_string(1'000 + number).substr(1));
    }
    for (size_t keys = input_.Below(12); keys > 0; --keys) {
      std::string key;
      AddKey(&key);
      for (size_t time = 0; time < times; ++time) *to += key;
    }
  }
  void AddMutation(std::string* to) {
    const size_t which = input_.Below(4);
    std::string mutation;
    if (which < 2) {
      AddPut(&mutation);
    } else {
      which == 2 ? AddKey(&mutation) : AddRange(&mutation);
      AddDatabase(2, &mutation);
    }
    *to += BytesField(1, BytesField(which < 2 ? 1 : static_cast<uint32_t>(which), mutation));
  }
  void AddWrite(std::string* to) {
    for (size_t count = input_.Below(6); count > 0; --count) AddMutation(to);
    for (size_t count = input_.Below(3); count > 0; --count) {
      std::string condition;
      AddKey(&condition);
      AddDatabase(2, &condition);
      AddCondition(3, &condition);
      *to += BytesField(2, condition);
    }
  }
  void AddPipeline(std::string* to) {
    const uint8_t id = input_.Byte();
    *to += NumberField(1, id);
    const size_t times = id < 240 ? 1 : id < 255 ? 150 : 1'001;
    for (size_t count = input_.Below(9); count > 0; --count) {
      const size_t which = input_.Below(5);
      const std::string request = Make(static_cast<front::NativeMethod>(which));
      const std::string operation = BytesField(2, BytesField(static_cast<uint32_t>(which + 1), request));
      for (size_t time = 0; time < times && to->size() < kMessageBytesMax; ++time) *to += operation;
    }
  }

  Decisions& input_;
};

}  // namespace prefixdb::test
