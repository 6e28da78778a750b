// Fuzzes a client's HTTP/2 connection and the calls on it: whatever a client sends, however little it reads, whatever
// methods, Python and the server behind say meanwhile, in any order. Nothing is left when the connection is gone.
//
//   the input is a list of acts: u8 which, then what the act needs (fuzz.h)
#include <array>
#include <string>

#include "front_stage.h"
#include "fuzz.h"

using prefixdb::test::Decisions;
using prefixdb::test::Insist;
using namespace prefixdb::front;

namespace {

namespace test = prefixdb::test;

constexpr std::array<std::string_view, 9> kPaths = {
    "/fake/Echo", "/fake/Later", "/fake/Put", "/fake/Punt", "/fake/Act", "/fake/Scan", "/fake/Pipe", "/other/One", "/"};
constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr std::array<size_t, 4> kSizes = {1, 300, 70'000, 400'000};

std::string_view Text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Clocks that never strike by themselves: an input means the same every time.
Limits Timeless() {
  Limits limits;
  limits.sweep = std::chrono::hours(1);
  return limits;
}

class Play {
 public:
  explicit Play(Decisions* input) : input_(*input), stage_(Timeless()) {
    stage_.act = [](Call& call) { call.Fail(Fail(Reason::kConflict)); };
    stage_.Know();
    fd_ = stage_.Connect(4096);
  }

  void Run() {
    if (input_.Below(8) != 0) {
      Write(kPreface);
      Write(test::Frame(NGHTTP2_SETTINGS, 0, 0));
    }
    for (int acts = 0; acts < 200 && !input_.empty(); ++acts) Act();
    close(fd_);
    WhenQuiet();
    CheckEmpty();
  }

 private:
  void Act() {
    switch (input_.Below(12)) {
      case 0:
        return Write(Text(input_.Bytes(4096)));
      case 1:
        return SendFrame();
      case 2:
      case 3:
        return SendCall();
      case 4:
        return SendMessage();
      case 5:
        return Write(Windows(input_.Below(4) * 100'000 + input_.Byte()));
      case 6:
        return ReadSome();
      case 7:
        return WorkOnCall();
      case 8:
        return AnswerFromBehind();
      case 9:
        return AnswerFromPython();
      case 10:
        return FromTheServer();
      default:
        return WhenQuiet();
    }
  }

  void Write(std::string_view bytes) { (void)!send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }

  uint32_t Id() { return static_cast<uint32_t>(2 * input_.Below(8) + 1); }

  void SendFrame() {
    const auto type = static_cast<uint8_t>(input_.Below(12));
    const uint8_t flags = input_.Byte();
    const uint32_t id = input_.Below(4) == 0 ? 0 : Id();
    Write(test::Frame(type, flags, id, Text(input_.Bytes(600))));
  }

  void SendCall() {
    const uint8_t how = input_.Byte();
    test::Fields more;
    if ((how & 1) == 0) more.emplace_back("authorization", (how & 2) == 0 ? "Bearer good" : "Bearer unknown");
    if ((how & 12) == 4) more.emplace_back("grpc-timeout", "0m");
    if ((how & 12) == 8) more.emplace_back("grpc-encoding", "gzip");
    if ((how & 16) != 0) more.emplace_back("x", std::string(Text(input_.Bytes(9000))));
    const std::string path(kPaths[input_.Below(kPaths.size())]);
    const uint8_t end = (how & 32) != 0 ? NGHTTP2_FLAG_END_STREAM : 0;
    Write(test::Frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | end, next_id_,
                      test::Block(test::CallHead(path, more))));
    if ((how & 64) != 0) Write(test::Frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, next_id_, test::Framed("hold")));
    next_id_ += 2;
  }

  void SendMessage() {
    const uint8_t how = input_.Byte();
    const uint8_t end = (how & 1) != 0 ? NGHTTP2_FLAG_END_STREAM : 0;
    std::string framed = test::Framed(Text(input_.Bytes(2000)), (how & 2) != 0 ? static_cast<uint8_t>(how >> 5) : 0);
    if ((how & 4) != 0) framed.resize(framed.size() / 2);
    Write(test::Frame(NGHTTP2_DATA, end, Id(), framed));
  }

  // Room on the connection, on each call, and on those to come.
  std::string Windows(size_t bytes) const {
    std::string size;
    for (int shift = 24; shift >= 0; shift -= 8) size += static_cast<char>(bytes >> shift);
    std::string frames = test::Frame(NGHTTP2_WINDOW_UPDATE, 0, 0, size);
    for (uint32_t id = 1; id < next_id_; id += 2) frames += test::Frame(NGHTTP2_WINDOW_UPDATE, 0, id, size);
    const std::string initial = std::string("\0\x04", 2) + size;
    return frames + test::Frame(NGHTTP2_SETTINGS, 0, 0, initial);
  }

  // The kernel holds little of what the server sends: there is a pass between two reads.
  void ReadSome() {
    std::string buffer(64 << 10, '\0');
    for (size_t reads = input_.Below(4) * 8 + 1; reads > 0; --reads) {
      (void)!recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
      stage_.On([] { return 0; });
    }
  }

  void WorkOnCall() {
    const size_t what = input_.Below(6);
    const size_t size = kSizes[input_.Below(kSizes.size())];
    stage_.On([&] {
      const auto call = stage_.last.lock();
      if (call == nullptr) return 0;
      switch (what) {
        case 0:
          call->Reply(std::string(size, 'r'));
          break;
        case 1:
        case 2:
          call->Send(std::string(size, 's'));
          break;
        case 3:
          call->End();
          break;
        case 4:
          call->Fail(Fail(Reason::kConflict));
          break;
        default:
          (void)call->SessionHolds();
      }
      return 0;
    });
  }

  void AnswerFromBehind() {
    const size_t which = input_.Below(8);
    const size_t what = input_.Below(6);
    const size_t size = kSizes[input_.Below(kSizes.size())];
    stage_.On([&] {
      auto& calls = stage_.upstream->calls;
      if (which >= calls.size() || calls[which]->gone || calls[which]->sink == nullptr) return 0;
      test::FakeUpstream::Opened& call = *calls[which];
      ForwardSink* const sink = call.sink;
      const bool last = what == 1 || what > 2;
      if (last) call.sink = nullptr;
      switch (what) {
        case 0:
        case 1:
          sink->OnHeaders({{":status", "200"}, {"grpc-status", "3"}}, what == 1);
          break;
        case 2:
          sink->OnData(std::string(size, 'f'));
          break;
        case 3:
          sink->OnTrailers({{"grpc-status", "0"}});
          break;
        case 4:
          sink->OnReset(NGHTTP2_CANCEL);
          break;
        default:
          sink->OnLost(size > 1);
      }
      return 0;
    });
  }

  void AnswerFromPython() {
    const bool good = input_.Below(2) == 0;
    for (const Question& question : stage_.services.upcalls.Take(8)) {
      if (good && std::holds_alternative<AdmitQuestion>(question.what)) {
        stage_.services.upcalls.AnswerAdmitted(question.number, test::Stage::Make({}), false);
      } else {
        stage_.services.upcalls.AnswerFailure(question.number, Fail(Reason::kTokenRevoked));
      }
    }
  }

  void FromTheServer() {
    const size_t what = input_.Below(8);
    if (what < 4) return stage_.services.changes.Changed(7);
    stage_.On([&] {
      if (what < 6) stage_.gateway->Recheck();
      if (what == 6) stage_.gateway->Drain(Fail(Reason::kDraining));
      if (what == 7) stage_.gateway->Cut(Fail(Reason::kDraining));
      return 0;
    });
  }

  // Everything that was sent has been looked at: each of these is a pass, and a read is as large as what is there.
  void WhenQuiet() {
    for (int passes = 0; passes < 3; ++passes) stage_.On([] { return 0; });
  }

  void CheckEmpty() {
    stage_.Until([&] { return stage_.services.metrics.connections == 0; });
    stage_.On([&] {
      Insist(stage_.gateway->running() == 0, "no call is counted any more");
      Insist(stage_.gateway->incoming.held() == 0, "no bytes of a request are held");
      Insist(stage_.last.expired() || stage_.last.lock()->open() == false, "the last call is over");
      return 0;
    });
    stage_.On([&] {
      Insist(stage_.methods_alive == 0, "no method is left");
      return 0;
    });
    Insist(stage_.services.unread.Hold(7, 1), "there is room for large answers");
    stage_.services.unread.Release(7, 1);
  }

  Decisions& input_;
  test::Stage stage_;
  int fd_ = -1;
  uint32_t next_id_ = 1;
};

}  // namespace

void FuzzOne(std::span<const uint8_t> input) {
  Decisions decisions(input);
  Play(&decisions).Run();
}
