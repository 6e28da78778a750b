// A peer's address in gRPC's words, as the Python server's logs and audit have it.
#pragma once

#include <sys/socket.h>

#include <string>

namespace prefixdb::front {

// "ipv4:127.0.0.1:4711" (also for IPv4 in IPv6), "ipv6:%5Bfe80::1%252%5D:4711", "unix:". Thread-safe.
std::string PeerText(const sockaddr_storage& address);

}  // namespace prefixdb::front
