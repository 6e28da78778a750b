// The load generator of `make bench`: replays prepared gRPC messages over HTTP/2 and tells rate and latencies.
//
//   grpc_load --port 7311 --path /prefixdb.v1.KeyValue/Get --replay FILE [--headers FILE] [--connections 8]
//             [--in-flight 8] [--seconds 3] [--warm-up 1] [--bidirectional 0]
//
// One thread: on a small machine a second one would take its processor from the server. It is a closed loop; each of
// `connections` keeps `in-flight` calls open, and a call that ends begins the next. Prints one JSON object. Ends with 2
// when a call failed. h2load sends one body only; this one is as fast and draws from many.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "grpc_connection.h"
#include "program.h"

namespace {

using bench::Arguments;
using bench::Connection;
using bench::Fail;
using bench::Plan;
using bench::Tally;

constexpr double kDrainSeconds = 1.0;  // Answers that come later are not waited for.

int Connect(uint16_t port) {
  const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (descriptor < 0 || connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    Fail("cannot connect to port " + std::to_string(port));
  }
  const int on = 1;
  if (setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) Fail("TCP_NODELAY");
  if (fcntl(descriptor, F_SETFL, O_NONBLOCK) != 0) Fail("O_NONBLOCK");
  return descriptor;
}

// `name: value` lines; kept out of the command line, where everybody could read a token.
void AddHeaders(const std::string& path, bench::Headers* headers) {
  if (path.empty()) return;
  std::ifstream file(path);
  if (!file) Fail("cannot read " + path);
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (colon == std::string::npos) Fail("a header is a line of `name: value`");
    headers->emplace_back(line.substr(0, colon), line.substr(colon + 2));
  }
}

Plan MakePlan(const Arguments& arguments) {
  Plan plan;
  plan.headers = {{":method", "POST"},
                  {":scheme", "http"},
                  {":path", arguments.Text("path")},
                  {":authority", "127.0.0.1:" + arguments.Text("port")},
                  {"content-type", "application/grpc"},
                  {"te", "trailers"}};
  AddHeaders(arguments.Text("headers"), &plan.headers);
  plan.replay = bench::Replay::Load(arguments.Text("replay"));
  plan.bidirectional = arguments.Number("bidirectional") != 0;
  return plan;
}

// Connections in one epoll loop, and the times at which the run changes its face.
class Run {
 public:
  Run(const Plan& plan, const Arguments& arguments) : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    const size_t count = arguments.Size("connections");
    if (epoll_ < 0 || count == 0) Fail("nothing to connect");
    for (size_t index = 0; index < count; ++index) {
      const size_t first_draw = plan.replay.draws.size() / count * index;
      connections_.push_back(std::make_unique<Connection>(Connect(static_cast<uint16_t>(arguments.Size("port"))), plan,
                                                          &tally_, arguments.Size("in-flight"), first_draw));
      Watch(index, EPOLL_CTL_ADD);
    }
  }
  ~Run() { close(epoll_); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  void Go(double warm_up_s, double seconds) {
    for (const auto& connection : connections_) connection->Start();
    SendAll();
    Spin(warm_up_s);
    tally_.measuring = true;
    const uint64_t begin = bench::NowNs();
    Spin(seconds);
    tally_.measuring = false;
    measured_s_ = static_cast<double>(bench::NowNs() - begin) / 1e9;
    tally_.stopping = true;
    for (const auto& connection : connections_) connection->EndStreams();
    SendAll();
    Spin(kDrainSeconds);
  }

  const Tally& tally() const { return tally_; }
  double measured_s() const { return measured_s_; }

 private:
  void Watch(size_t index, int operation) {
    epoll_event event{};
    event.events = EPOLLIN | (connections_[index]->wants_write() ? uint32_t{EPOLLOUT} : 0u);
    event.data.u64 = index;
    if (epoll_ctl(epoll_, operation, connections_[index]->socket(), &event) != 0) Fail("epoll_ctl");
  }

  void SendAll() {
    for (size_t index = 0; index < connections_.size(); ++index) {
      connections_[index]->Send();
      Watch(index, EPOLL_CTL_MOD);
    }
  }

  bool Idle() const {
    for (const auto& connection : connections_) {
      if (connection->in_flight() > 0) return false;
    }
    return true;
  }

  // Until the time is up, or nothing is in flight: then every call failed, or the run is over.
  void Spin(double seconds) {
    const uint64_t until = bench::NowNs() + static_cast<uint64_t>(seconds * 1e9);
    std::vector<epoll_event> events(connections_.size());
    for (uint64_t now = bench::NowNs(); now < until && !Idle(); now = bench::NowNs()) {
      const int wait_ms = static_cast<int>((until - now) / 1'000'000) + 1;
      const int ready = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), wait_ms);
      for (int number = 0; number < ready; ++number) {
        const auto& event = events[static_cast<size_t>(number)];
        const size_t index = event.data.u64;
        Connection* connection = connections_[index].get();
        const bool wanted = connection->wants_write();
        if ((event.events & ~uint32_t{EPOLLOUT}) != 0) connection->Receive();
        connection->Send();
        if (connection->wants_write() != wanted) Watch(index, EPOLL_CTL_MOD);
      }
    }
  }

  const int epoll_;
  Tally tally_;
  std::vector<std::unique_ptr<Connection>> connections_;
  double measured_s_ = 0;
};

void Print(const Run& run) {
  const Tally& tally = run.tally();
  const auto us = [&](double share) { return static_cast<double>(tally.latency.Quantile(share)) / 1e3; };
  std::printf(
      "{\"seconds\": %.6f, \"calls\": %llu, \"messages\": %llu, \"bytes\": %llu, \"calls_all\": %llu, "
      "\"messages_all\": %llu, \"bytes_all\": %llu, \"smallest\": %llu, \"largest\": %llu, \"p50_us\": %.1f, "
      "\"p99_us\": %.1f, "
      "\"p999_us\": %.1f, \"generator_cpu_s\": %.3f}\n",
      run.measured_s(), static_cast<unsigned long long>(tally.calls), static_cast<unsigned long long>(tally.messages),
      static_cast<unsigned long long>(tally.bytes), static_cast<unsigned long long>(tally.calls_all),
      static_cast<unsigned long long>(tally.messages_all), static_cast<unsigned long long>(tally.bytes_all),
      static_cast<unsigned long long>(tally.smallest), static_cast<unsigned long long>(tally.largest), us(0.50),
      us(0.99), us(0.999), bench::CpuSeconds());
}

}  // namespace

int main(int count, char** texts) {
  const Arguments arguments(count, texts,
                            {{"port", ""},
                             {"path", ""},
                             {"replay", ""},
                             {"headers", ""},
                             {"connections", "8"},
                             {"in-flight", "8"},
                             {"seconds", "3"},
                             {"warm-up", "1"},
                             {"bidirectional", "0"}});
  const Plan plan = MakePlan(arguments);
  Run run(plan, arguments);
  run.Go(arguments.Number("warm-up"), arguments.Number("seconds"));
  if (run.tally().failed > 0) {
    std::fprintf(stderr, "%llu calls failed; the first: %s\n", static_cast<unsigned long long>(run.tally().failed),
                 run.tally().first_failure.c_str());
    return 2;
  }
  Print(run);
  return 0;
}
