// Reads the frozen vectors in tests/data: JSON as Python's json module writes it. Tests only: it trusts its input.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace prefixdb::test {

// A value. What is asked for as something it is not throws std::bad_variant_access, which fails the test.
class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json>;

  // tests/data/`name`, found from wherever in the tree the test runs.
  static Json OfData(const std::string& name) {
    for (std::string above; above.size() < 32; above += "../") {
      for (const std::string& place : {above + "tests/data/" + name, above + "data/" + name}) {
        if (std::ifstream file(place); file) {
          std::stringstream text;
          text << file.rdbuf();
          return Parse(text.str());
        }
      }
    }
    throw std::runtime_error("tests/data/" + name + " is not there");
  }

  static Json Parse(std::string_view text) {
    Json value = ParseValue(&text);
    Skip(&text);
    if (!text.empty()) throw std::runtime_error("more than one JSON value");
    return value;
  }

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
  bool boolean() const { return std::get<bool>(value_); }
  int64_t number() const { return std::get<int64_t>(value_); }
  const std::string& text() const { return std::get<std::string>(value_); }
  const Array& array() const { return *std::get<std::shared_ptr<Array>>(value_); }
  const Object& object() const { return *std::get<std::shared_ptr<Object>>(value_); }

  bool has(const std::string& name) const { return object().contains(name); }
  const Json& operator[](const std::string& name) const { return object().at(name); }

  std::string bytes() const {  // Of a text in hex.
    std::string found;
    for (size_t index = 0; index + 1 < text().size(); index += 2) {
      found += static_cast<char>(std::stoi(text().substr(index, 2), nullptr, 16));
    }
    return found;
  }

 private:
  static void Skip(std::string_view* text) {
    while (!text->empty() && std::string_view(" \n\r\t").find(text->front()) != std::string_view::npos) {
      text->remove_prefix(1);
    }
  }

  static bool Take(std::string_view* text, std::string_view wanted) {
    Skip(text);
    if (!text->starts_with(wanted)) return false;
    text->remove_prefix(wanted.size());
    return true;
  }

  static void Demand(std::string_view* text, std::string_view wanted) {
    if (!Take(text, wanted)) throw std::runtime_error("not JSON: no " + std::string(wanted));
  }

  static Json ParseValue(std::string_view* text) {
    Json value;
    if (Take(text, "null")) return value;
    if (Take(text, "true")) return Of(true);
    if (Take(text, "false")) return Of(false);
    if (Take(text, "\"")) return Of(ParseText(text));
    if (Take(text, "[")) {
      auto array = std::make_shared<Array>();
      while (!Take(text, "]")) {
        if (!array->empty()) Demand(text, ",");
        array->push_back(ParseValue(text));
      }
      return Of(std::move(array));
    }
    if (Take(text, "{")) {
      auto object = std::make_shared<Object>();
      while (!Take(text, "}")) {
        if (!object->empty()) Demand(text, ",");
        Demand(text, "\"");
        std::string name = ParseText(text);
        Demand(text, ":");
        object->emplace(std::move(name), ParseValue(text));
      }
      return Of(std::move(object));
    }
    size_t digits = 0;
    const int64_t number = std::stoll(std::string(text->substr(0, 24)), &digits);
    text->remove_prefix(digits);
    return Of(number);
  }

  // Behind the opening quote. Escapes but \u, which Python writes for nothing here (ensure_ascii is off, or all is
  // hex).
  static std::string ParseText(std::string_view* text) {
    std::string found;
    while (text->front() != '"') {
      if (text->front() == '\\') {
        text->remove_prefix(1);
        constexpr std::string_view kEscapes = "\"\\/bfnrt";
        const size_t which = kEscapes.find(text->front());
        if (which == std::string_view::npos) throw std::runtime_error("an escape that this reader does not know");
        found += "\"\\/\b\f\n\r\t"[which];
      } else {
        found += text->front();
      }
      text->remove_prefix(1);
    }
    text->remove_prefix(1);
    return found;
  }

  template <typename Held>
  static Json Of(Held held) {
    Json value;
    value.value_ = std::move(held);
    return value;
  }

  std::variant<std::nullptr_t, bool, int64_t, std::string, std::shared_ptr<Array>, std::shared_ptr<Object>> value_ =
      nullptr;
};

}  // namespace prefixdb::test
