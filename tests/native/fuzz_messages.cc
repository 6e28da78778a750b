// Fuzzes what takes bytes and text of clients apart without a connection: messages of the KeyValue service, gRPC's
// framing with gzip, timeouts, percent-encoding, base64 and headers. Whatever comes means what a second, slow reader
// says (fuzz_reference.h), is the same in whatever pieces it comes, and comes back from where it was written.
//
//   the input is u8 which of these, then what that needs (fuzz.h)
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "front/grpc_codec.h"
#include "front/messages.h"
#include "front/request_head.h"
#include "fuzz.h"
#include "fuzz_reference.h"
#include "fuzz_told.h"
#include "gzip_support.h"

using prefixdb::test::Decisions;
using prefixdb::test::Insist;
using namespace prefixdb::front;

namespace {

namespace test = prefixdb::test;

std::string Copy(std::span<const uint8_t> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// Fields one after the other, mostly such as a message may have, some inside of others.
std::string Fields(Decisions* input, int depth) {
  std::string bytes;
  const auto varint = [&bytes](uint64_t value) {
    for (; value >= 128; value /= 128) bytes += static_cast<char>(value % 128 + 128);
    bytes += static_cast<char>(value);
  };
  for (size_t fields = input->Below(8); fields > 0; --fields) {
    const uint8_t how = input->Byte();
    const uint32_t number = how % 8;
    switch (how / 32) {
      case 0:
        varint(number * 8);
        varint(input->Byte());
        break;
      case 1:
        varint(number * 8);
        varint(uint64_t{input->Byte()} << (input->Byte() % 64));
        break;
      case 2:
      case 3: {
        const std::string inside = depth > 0 ? Fields(input, depth - 1) : Copy(input->Bytes(40));
        varint(number * 8 + 2);
        varint(inside.size());
        bytes += inside;
        break;
      }
      case 4:
        varint(number * 8 + 2);
        bytes += static_cast<char>(input->Byte());
        bytes += Copy(input->Bytes(100));
        break;
      case 5: {  // Groups, in each other.
        const size_t begun = input->Below(128);
        const size_t ended = input->Below(4) == 3 ? input->Below(128) : begun;
        bytes.append(begun, static_cast<char>(number * 8 + 3)).append(ended, static_cast<char>(number * 8 + 4));
        break;
      }
      case 6: {  // Messages, in each other.
        std::string inside;
        const char tag = static_cast<char>(number * 8 + 2);
        for (int each = input->Byte() % 40; each > 0 && inside.size() < 100; --each) {
          inside.insert(0, {tag, static_cast<char>(inside.size())});
        }
        bytes += inside;
        break;
      }
      default:
        bytes += Copy(input->Bytes(40));
    }
  }
  return bytes;
}

template <typename Request>
void CheckRequest(std::string_view bytes, const test::Spec& spec) {
  // Of exactly its size: whoever reads on is seen.
  const std::vector<char> exact(bytes.begin(), bytes.end());
  const std::string_view view(exact.data(), exact.size());
  Request request;
  const bool read = Parse(view, &request);
  test::Node reference;
  Insist(read == test::ReferenceReader::Read(view, spec, &reference), "both say whether it is a message");
  if (!read) return;
  const std::string told = test::Tell(reference, spec);
  Insist(test::Told(request) == told, "both read the same");
  const std::string again = test::Encode(reference, spec);
  Request twice;
  Insist(Parse(again, &twice), "what was read can be written and read");
  Insist(test::Told(twice) == told, "and says the same then");
}

void CheckRequests(Decisions* input) {
  const size_t which = input->Below(9);
  const size_t how = input->Below(4);
  const std::string bytes = how == 0 ? Copy(input->Rest()) : Fields(input, static_cast<int>(how));
  switch (which) {
    case 0:
      return CheckRequest<GetRequest>(bytes, test::kGetSpec);
    case 1:
      return CheckRequest<BatchGetRequest>(bytes, test::kBatchGetSpec);
    case 2:
      return CheckRequest<PutRequest>(bytes, test::kPutSpec);
    case 3:
      return CheckRequest<DeleteRequest>(bytes, test::kDeleteSpec);
    case 4:
      return CheckRequest<WriteRequest>(bytes, test::kWriteSpec);
    case 5:
      return CheckRequest<ScanRequest>(bytes, test::kScanSpec);
    case 6:
      return CheckRequest<CountRequest>(bytes, test::kCountSpec);
    default:
      return CheckRequest<PipelineRequest>(bytes, test::kPipelineSpec);
  }
}

// All messages, and how it went on.
struct Heard {
  std::vector<std::string> messages;
  MessageReader::Found last = MessageReader::Found::kNeedMore;
  std::string why;
  bool partial = false;
  bool operator==(const Heard&) const = default;
};

void Listen(MessageReader* reader, size_t bytes_max, Heard* heard) {
  std::string message;
  Failure failure;
  while ((heard->last = reader->Next(&message, &failure)) == MessageReader::Found::kMessage) {
    Insist(message.size() <= bytes_max, "a message is no longer than it may be");
    heard->messages.push_back(message);
  }
  Insist(reader->missing() <= bytes_max, "no more is awaited than a message may have");
  heard->why = failure.message;
  heard->partial = reader->partial();
}

void CheckFraming(Decisions* input) {
  constexpr std::array<size_t, 4> kMost = {0, 100, 5'000, 1 << 20};
  const size_t bytes_max = kMost[input->Below(kMost.size())];
  const uint8_t how = input->Byte();
  const bool gzip = (how & 1) != 0;
  std::string stream;
  std::vector<size_t> cuts;
  for (size_t messages = how >> 5; messages > 0; --messages) {
    const uint8_t what = input->Byte();
    std::string message = (what & 1) != 0 ? std::string(input->Byte() * size_t{40}, 'z') : Copy(input->Bytes(300));
    if ((what & 2) != 0) message = test::Packed(message);
    if ((what & 4) != 0 && !message.empty()) message[input->Byte() % message.size()] ^= static_cast<char>(what);
    std::string head;
    AppendMessageHead(message.size(), &head);
    head[0] = static_cast<char>((what & 8) != 0 ? input->Byte() : (what & 2) / 2);
    if ((what & 16) != 0) head[1 + what / 64] = static_cast<char>(input->Byte());
    stream += head + message;
    cuts.push_back(stream.size() - std::min<size_t>(stream.size(), input->Byte()));
  }
  if ((how & 2) != 0) stream += Copy(input->Rest());
  Heard whole;
  MessageReader at_once(bytes_max, gzip);
  at_once.Add(stream);
  Listen(&at_once, bytes_max, &whole);

  Heard pieces;
  MessageReader cut(bytes_max, gzip);
  const size_t piece = (how & 4) != 0 ? 1 : 0;
  size_t from = 0;
  const auto add = [&](size_t to) {
    if (to < from || to > stream.size() || pieces.last == MessageReader::Found::kBad) return;
    cut.Add(std::string_view(stream).substr(from, to - from));
    from = to;
    Listen(&cut, bytes_max, &pieces);
    Insist(cut.buffered() <= bytes_max + stream.size(), "no more is kept than came");
  };
  for (const size_t to : cuts) add(to);
  for (size_t to = from; piece > 0 && to < std::min(stream.size(), from + 2'000); to += piece) add(to);
  add(stream.size());
  Insist(pieces.messages == whole.messages && pieces.last == whole.last && pieces.why == whole.why,
         "the same whatever pieces it comes in");
  if (whole.last != MessageReader::Found::kBad) Insist(pieces.partial == whole.partial, "and its end is");
}

void CheckInflating(Decisions* input) {
  const uint8_t how = input->Byte();
  const std::string text = (how & 1) != 0 ? std::string(input->Byte() * size_t{1'000}, 'x') : Copy(input->Bytes(3'000));
  bool too_large = false;
  const std::string packed = test::Packed(text);
  Insist(Inflate(packed, text.size(), &too_large) == text && !too_large, "it fits exactly");
  if (!text.empty()) Insist(!Inflate(packed, text.size() - 1, &too_large) && too_large, "one byte less is too little");
  if (packed.size() > 1) Insist(!Inflate(packed.substr(0, packed.size() - 1), 1 << 20, &too_large), "it has an end");
  Insist(!Inflate(packed + 'x', 1 << 20, &too_large) && !too_large, "nothing comes behind its end");
  const std::string any = Copy(input->Rest());
  const auto little = Inflate(any, 100, &too_large);
  const bool was_too_large = too_large;
  const auto much = Inflate(any, 1 << 20, &too_large);
  if (little) Insist(little->size() <= 100 && much == little, "room makes no difference");
  if (much && much->size() > 100) Insist(!little && was_too_large, "what is more than allowed is too large");
}

void CheckTimeout(Decisions* input) {
  using std::chrono::milliseconds;
  if (input->Below(2) == 0) {
    int64_t ms = 0;
    for (size_t bytes = input->Below(9); bytes > 0; --bytes)
      ms = static_cast<int64_t>(uint64_t(ms) << 8 | input->Byte());
    const std::string text = FormatTimeout(milliseconds(ms));
    const auto read = ParseTimeout(text);
    Insist(read.has_value(), "what is said is a timeout");
    const int64_t most = int64_t{99'999'999} * 3'600'000;
    const int64_t wanted = std::clamp<int64_t>(ms, 0, most);
    Insist(read->count() >= wanted && read->count() - wanted < 3'600'000, "it is no shorter and hardly longer");
    Insist(wanted > 99'999'999 || read->count() == wanted, "up to a day it is exact");
    return;
  }
  const std::string text = Copy(input->Rest());
  const auto read = ParseTimeout(text);
  const bool digits = std::all_of(text.begin(), text.empty() ? text.end() : text.end() - 1,
                                  [](char each) { return each >= '0' && each <= '9'; });
  constexpr std::string_view kUnits = "HMSmun";
  const bool is_one = text.size() >= 2 && text.size() <= 9 && digits && kUnits.find(text.back()) != kUnits.npos;
  Insist(read.has_value() == is_one, "digits and a unit");
  if (!read) return;
  constexpr std::array<double, 6> kNs = {3.6e12, 6e10, 1e9, 1e6, 1e3, 1};
  const double ns = std::stod(text.substr(0, text.size() - 1)) * kNs[kUnits.find(text.back())];
  const double ms = static_cast<double>(read->count());
  Insist(ms * 1e6 >= ns && (ms - 1) * 1e6 < ns, "rounded up to a millisecond");
}

void CheckTexts(Decisions* input) {
  const std::string text = Copy(input->Rest());
  const std::string encoded = PercentEncode(text);
  std::string decoded;
  for (size_t at = 0; at < encoded.size(); ++at) {
    const auto byte = static_cast<uint8_t>(encoded[at]);
    Insist(byte >= 0x20 && byte <= 0x7e, "it is printable");
    if (byte != '%') {
      decoded += encoded[at];
      continue;
    }
    decoded += static_cast<char>(std::stoi(encoded.substr(at + 1, 2), nullptr, 16));
    at += 2;
  }
  Insist(decoded == text, "percent-encoding says the text");

  Insist(UnBase64(Base64(text)) == text, "base64 says the bytes");
  if (const auto bytes = UnBase64(text)) {
    const std::string canonical = Base64(*bytes);
    Insist(text.starts_with(canonical.substr(0, canonical.empty() ? 0 : canonical.size() - 1)),
           "only spare bits differ");
  }
}

void CheckHead(Decisions* input) {
  constexpr std::array<std::string_view, 10> kNames = {
      ":method",       ":path", "te", "content-type", "authorization", "grpc-timeout", "grpc-encoding",
      "prefixdb-peer", "x",     ""};
  const size_t most = 100 + input->Byte() * size_t{40};
  RequestHead head;
  Headers kept;
  size_t counted = 0;
  std::string path;
  int authorizations = 0;
  while (!input->empty()) {
    const size_t which = input->Below(kNames.size());
    const std::string name = which + 1 < kNames.size() ? std::string(kNames[which]) : Copy(input->Bytes(70));
    const std::string value = Copy(input->Bytes(300));
    head.Add(name, value, most);
    counted += name.size() + value.size() + 32;
    Insist(head.bytes() == counted, "bytes are counted as HTTP/2 counts");
    if (counted > most) continue;
    if (name == ":path") path = value;
    authorizations += name == "authorization";
    if (!name.starts_with("prefixdb-peer")) kept.emplace_back(name, value);
  }
  Insist(head.path() == path && head.authorizations() == authorizations, "what was said is known");
  Insist(head.ToHeaders(std::nullopt) == kept, "and goes on as it came");
  std::erase_if(kept, [](const auto& entry) { return entry.first == "grpc-timeout"; });
  kept.emplace_back("grpc-timeout", "7m");
  Insist(head.ToHeaders(std::chrono::milliseconds(7)) == kept, "or with another time");
}

}  // namespace

void FuzzOne(std::span<const uint8_t> input) {
  Decisions decisions(input);
  switch (decisions.Below(16)) {
    case 0:
    case 1:
      return CheckFraming(&decisions);
    case 2:
      return CheckInflating(&decisions);
    case 3:
      return CheckTimeout(&decisions);
    case 4:
      return CheckTexts(&decisions);
    case 5:
      return CheckHead(&decisions);
    case 6:
    case 7:
      return test::CheckAnswers(&decisions);
    default:
      return CheckRequests(&decisions);
  }
}
