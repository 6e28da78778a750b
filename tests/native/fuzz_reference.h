// A second reader of protocol buffers, written for nothing but to be compared with the front's: slow, driven by a
// table of messages, everything copied. What a message says is told as text, so that two readings can be compared:
//
//   field=hex or number; for scalars, field{...} for messages; what says nothing is left out, as proto3 does.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace prefixdb::test {

enum class Kind : uint8_t { kBytes, kUint32, kUint64, kBool, kMessage };

struct Spec;
struct FieldSpec {
  uint32_t number;
  Kind kind;
  const Spec* message = nullptr;
  bool repeated = false;
  bool present = false;  // Told although it says nothing: it has presence and somebody asks.
};
struct Spec {
  std::vector<FieldSpec> fields;
  bool is_oneof = false;  // All of its fields are one oneof.

  const FieldSpec* Find(uint32_t number) const {
    for (const FieldSpec& field : fields) {
      if (field.number == number) return &field;
    }
    return nullptr;
  }
};

inline std::string Hex(std::string_view bytes) {
  std::string hex;
  for (const char each : bytes) {
    hex += "0123456789abcdef"[static_cast<uint8_t>(each) >> 4];
    hex += "0123456789abcdef"[static_cast<uint8_t>(each) & 15];
  }
  return hex;
}

// A message that was read.
struct Node {
  std::map<uint32_t, std::string> bytes;
  std::map<uint32_t, uint64_t> numbers;
  std::map<uint32_t, std::vector<Node>> messages;
  std::map<uint32_t, std::vector<std::string>> many;  // Repeated bytes.
};

class ReferenceReader {
 public:
  static bool Read(std::string_view bytes, const Spec& spec, Node* into, int depth = 0) {
    ReferenceReader reader(bytes, depth);
    return depth <= kDepthMax && reader.Message(spec, into) && reader.at_ == bytes.size();
  }

 private:
  static constexpr int kDepthMax = 100;

  ReferenceReader(std::string_view bytes, int depth) : bytes_(bytes), depth_(depth) {}

  bool Varint(size_t most, uint64_t* value, unsigned* high) {
    uint64_t whole = 0;
    for (size_t count = 0; count < most; ++count) {
      if (at_ == bytes_.size()) return false;
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      whole += static_cast<uint64_t>(byte % 128) << (7 * count);  // Beyond 64 bits nothing counts.
      if (byte < 128) {
        *value = whole;
        *high = static_cast<unsigned>(whole >> 32 != 0);
        return true;
      }
    }
    return false;
  }
  bool Tag(uint32_t* number, unsigned* type) {
    uint64_t tag = 0;
    unsigned high = 0;
    if (!Varint(5, &tag, &high) || high != 0) return false;
    *number = static_cast<uint32_t>(tag / 8);
    *type = static_cast<unsigned>(tag % 8);
    return *number != 0;
  }
  bool Skip(size_t count) {
    if (bytes_.size() - at_ < count) return false;
    at_ += count;
    return true;
  }
  bool Length(std::string_view* bytes) {
    uint64_t length = 0;
    unsigned high = 0;
    if (!Varint(10, &length, &high) || length > INT32_MAX || length > bytes_.size() - at_) return false;
    *bytes = bytes_.substr(at_, length);
    at_ += length;
    return true;
  }
  bool Group(uint32_t begun, int depth) {
    if (depth > kDepthMax) return false;
    while (true) {
      uint32_t number = 0;
      unsigned type = 0;
      if (!Tag(&number, &type)) return false;
      if (type == 4) return number == begun;
      std::string_view bytes;
      uint64_t value = 0;
      if (!Value(number, type, depth, &value, &bytes)) return false;
    }
  }
  bool Value(uint32_t number, unsigned type, int depth, uint64_t* value, std::string_view* bytes) {
    unsigned high = 0;
    if (type == 0) return Varint(10, value, &high);
    if (type == 1) return Skip(8);
    if (type == 2) return Length(bytes);
    if (type == 3) return Group(number, depth + 1);
    return type == 5 && Skip(4);
  }
  bool Message(const Spec& spec, Node* into) {
    while (at_ < bytes_.size()) {
      uint32_t number = 0;
      unsigned type = 0;
      uint64_t value = 0;
      std::string_view bytes;
      if (!Tag(&number, &type) || !Value(number, type, depth_, &value, &bytes)) return false;
      const FieldSpec* const field = spec.Find(number);
      if (field == nullptr) continue;
      const bool is_bytes = field->kind == Kind::kBytes || field->kind == Kind::kMessage;
      if (type != (is_bytes ? 2u : 0u)) continue;
      if (!Set(spec, *field, value, bytes, into)) return false;
    }
    return true;
  }
  bool Set(const Spec& spec, const FieldSpec& field, uint64_t value, std::string_view bytes, Node* into) {
    if (spec.is_oneof && !(into->messages.size() == 1 && into->messages.contains(field.number))) *into = Node();
    switch (field.kind) {
      case Kind::kBytes:
        if (field.repeated) {
          into->many[field.number].emplace_back(bytes);
        } else {
          into->bytes[field.number] = bytes;
        }
        return true;
      case Kind::kMessage: {
        auto& there = into->messages[field.number];
        if (field.repeated || there.empty()) there.emplace_back();
        return Read(bytes, *field.message, &there.back(), depth_ + 1);
      }
      case Kind::kUint32:
        value &= UINT32_MAX;
        break;
      case Kind::kBool:
        value = value != 0;
        break;
      case Kind::kUint64:
        break;
    }
    into->numbers[field.number] = value;
    return true;
  }

  const std::string_view bytes_;
  const int depth_;
  size_t at_ = 0;
};

// A message as text.
inline std::string Tell(const Node& node, const Spec& spec) {
  std::string text;
  for (const FieldSpec& field : spec.fields) {
    const std::string name = std::to_string(field.number);
    if (field.kind == Kind::kMessage) {
      const auto found = node.messages.find(field.number);
      if (found == node.messages.end()) continue;
      for (const Node& each : found->second) {
        const std::string inside = Tell(each, *field.message);
        if (!inside.empty() || field.present || field.repeated || spec.is_oneof) text += name + "{" + inside + "}";
      }
    } else if (field.repeated) {
      const auto found = node.many.find(field.number);
      if (found == node.many.end()) continue;
      for (const std::string& each : found->second) text += name + "=" + Hex(each) + ";";
    } else if (field.kind == Kind::kBytes) {
      const auto found = node.bytes.find(field.number);
      if (found != node.bytes.end() && (!found->second.empty() || spec.is_oneof)) {
        text += name + "=" + Hex(found->second) + ";";
      }
    } else {
      const auto found = node.numbers.find(field.number);
      if (found != node.numbers.end() && (found->second != 0 || spec.is_oneof)) {
        text += name + "=" + std::to_string(found->second) + ";";
      }
    }
  }
  return text;
}

// The bytes of a message.
inline std::string Encode(const Node& node, const Spec& spec) {
  std::string bytes;
  const auto varint = [&bytes](uint64_t value) {
    for (; value >= 128; value /= 128) bytes += static_cast<char>(value % 128 + 128);
    bytes += static_cast<char>(value);
  };
  const auto add = [&](uint32_t number, std::string_view text) {
    varint(number * 8 + 2);
    varint(text.size());
    bytes += text;
  };
  for (const FieldSpec& field : spec.fields) {
    if (const auto found = node.messages.find(field.number); found != node.messages.end()) {
      for (const Node& each : found->second) add(field.number, Encode(each, *field.message));
    }
    if (const auto found = node.many.find(field.number); found != node.many.end()) {
      for (const std::string& each : found->second) add(field.number, each);
    }
    if (const auto found = node.bytes.find(field.number); found != node.bytes.end()) add(field.number, found->second);
    if (const auto found = node.numbers.find(field.number); found != node.numbers.end()) {
      varint(field.number * 8);
      varint(found->second);
    }
  }
  return bytes;
}

}  // namespace prefixdb::test
