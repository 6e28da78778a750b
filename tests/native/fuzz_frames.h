// Blocks of headers made of an input's decisions, in every form HPACK has, and frames that carry them.
#pragma once

#include <algorithm>
#include <string>

#include "front_client.h"
#include "fuzz.h"

namespace prefixdb::test {

class BlockMaker {
 public:
  explicit BlockMaker(Decisions* input) : input_(*input) {}

  // The head of a call with a few more entries, right and wrong ones.
  std::string Make() {
    std::string block;
    if (input_.Below(8) == 7) block += static_cast<char>(0x20 | input_.Below(32));  // The table's size.
    const uint8_t missing = input_.Byte();
    if ((missing & 7) != 7) block += '\x83';  // :method POST, of the table.
    if ((missing & 7) != 6) block += '\x86';  // :scheme http
    if ((missing & 7) != 5) block += Literal(0x04, "", Path());
    if ((missing & 7) != 2) block += Literal(0x01, "", "x");  // :authority
    if ((missing & 7) != 4) block += Literal(0, "te", "trailers");
    if ((missing & 7) != 3) block += Literal(0, "content-type", ContentType());
    if ((missing & 24) != 24) block += Literal(0x10, "authorization", Authorization());
    for (size_t entries = input_.Below(6); entries > 0; --entries) block += Entry();
    return block;
  }

  // HEADERS, whole or in pieces, padded or not, with a priority or without.
  std::string Frames(uint32_t id, bool ends) {
    std::string block = Make();
    const uint8_t how = input_.Byte();
    uint8_t flags = ends ? NGHTTP2_FLAG_END_STREAM : 0;
    constexpr size_t kPieceBytes = 16'000;
    const size_t pieces = std::max((how & 3) == 3 ? 1 + input_.Below(10) : 0, block.size() / kPieceBytes);
    const size_t piece = block.size() / (pieces + 1);
    std::string payload = pieces > 0 ? block.substr(0, piece) : block;
    if ((how & 12) == 12) {
      payload.insert(0, std::string("\0\0\0\0\x10", 5));
      flags |= NGHTTP2_FLAG_PRIORITY;
    }
    if ((how & 48) == 48) {
      const auto padding = static_cast<char>(input_.Byte());
      payload.insert(0, 1, padding);
      payload.append(static_cast<uint8_t>(padding), '\0');
      flags |= NGHTTP2_FLAG_PADDED;
    }
    if (pieces == 0) flags |= NGHTTP2_FLAG_END_HEADERS;
    std::string frames = Frame(NGHTTP2_HEADERS, flags, id, payload);
    for (size_t done = 1; done <= pieces; ++done) {
      const bool last = done == pieces;
      frames += Frame(NGHTTP2_CONTINUATION, last && how < 250 ? NGHTTP2_FLAG_END_HEADERS : 0, id,
                      block.substr(done * piece, last ? std::string::npos : piece));
    }
    return frames;
  }

 private:
  std::string Text(size_t most) {
    const auto bytes = input_.Bytes(most);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  static std::string Length(size_t length, uint8_t prefix, uint8_t first) {
    std::string text;
    if (length < prefix) return std::string(1, static_cast<char>(first | length));
    text += static_cast<char>(first | prefix);
    for (length -= prefix; length >= 128; length /= 128) text += static_cast<char>(length % 128 + 128);
    return text + static_cast<char>(length);
  }
  static std::string String(std::string_view text) { return Length(text.size(), 127, 0).append(text); }
  // `form`: how it is to be kept (0x40: in the table, 0x10: never, 0: not); `name`, or the table's when it is empty.
  static std::string Literal(uint8_t form, std::string_view name, std::string_view value) {
    std::string entry(1, static_cast<char>(form));
    if (!name.empty()) entry += String(name);
    return entry + String(value);
  }
  std::string Path() {
    constexpr std::string_view kPaths[] = {"/prefixdb.v1.KeyValue/Get",  "/prefixdb.v1.KeyValue/Pipeline",
                                           "/prefixdb.v1.KeyValue/Scan", "/fake/Echo",
                                           "/prefixdb.v1.KeyValue/",     "/prefixdb.v1.Admin/Status"};
    const size_t which = input_.Below(8);
    return which < std::size(kPaths) ? std::string(kPaths[which]) : Text(300);
  }
  std::string ContentType() {
    constexpr std::string_view kTypes[] = {"application/grpc", "application/grpc+proto", "application/grpc;x", "a/b"};
    const size_t which = input_.Below(8);
    return std::string(kTypes[which < std::size(kTypes) ? which : 0]);
  }
  std::string Authorization() {
    const size_t which = input_.Below(8);
    if (which == 6) return Text(300);
    if (which == 7) return "Bearer " + std::string(4090 + input_.Below(10), 't');
    return which == 5 ? "Bearer unknown" : which == 4 ? "bearer good " : "Bearer good";
  }
  std::string Entry() {
    constexpr std::string_view kNames[] = {"grpc-timeout", "grpc-encoding", "prefixdb-peer", "x-bin", "grpc-timeout"};
    constexpr std::string_view kValues[] = {"1S", "gzip", "unix:", "AAAA", "99999999H", "identity", "deflate", "300m"};
    switch (input_.Below(7)) {
      case 0:
        return std::string(1, static_cast<char>(0x80 | input_.Byte()));  // Of the table, that is there or not.
      case 1:
      case 2: {
        const std::string name = Text(40);
        return Literal(0x40, name, Text(100));
      }
      case 3:
        return std::string("\0\x81", 2) + Text(5);  // Huffman's code.
      case 4:
        return Text(20);
      case 5:
        return Literal(0, "x", std::string(input_.Below(16) * 1'000, 'x'));
      default: {
        const uint8_t form = input_.Below(2) == 0 ? 0 : 0x40;
        const std::string_view name = kNames[input_.Below(std::size(kNames))];
        return Literal(form, name, kValues[input_.Below(std::size(kValues))]);
      }
    }
  }

  Decisions& input_;
};

}  // namespace prefixdb::test
