#include "front/peer_text.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>

namespace prefixdb::front {

namespace {

std::string Ipv4(const in_addr& address, in_port_t port) {
  char text[INET_ADDRSTRLEN] = "";
  inet_ntop(AF_INET, &address, text, sizeof(text));
  return "ipv4:" + std::string(text) + ":" + std::to_string(ntohs(port));
}

std::string Ipv6(const sockaddr_in6& address) {
  if (IN6_IS_ADDR_V4MAPPED(&address.sin6_addr)) {
    in_addr inner;
    std::memcpy(&inner, &address.sin6_addr.s6_addr[12], sizeof(inner));
    return Ipv4(inner, address.sin6_port);
  }
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(AF_INET6, &address.sin6_addr, text, sizeof(text));
  std::string host = text;
  if (address.sin6_scope_id != 0) host += "%25" + std::to_string(address.sin6_scope_id);  // "%", percent-encoded.
  return "ipv6:%5B" + host + "%5D:" + std::to_string(ntohs(address.sin6_port));
}

}  // namespace

std::string PeerText(const sockaddr_storage& address) {
  // Copied: the kernel has written one of them into bytes of another type.
  switch (address.ss_family) {
    case AF_INET: {
      sockaddr_in ipv4;
      std::memcpy(&ipv4, &address, sizeof(ipv4));
      return Ipv4(ipv4.sin_addr, ipv4.sin_port);
    }
    case AF_INET6: {
      sockaddr_in6 ipv6;
      std::memcpy(&ipv6, &address, sizeof(ipv6));
      return Ipv6(ipv6);
    }
    case AF_UNIX:
      return "unix:";
    default:
      return "unknown:";
  }
}

}  // namespace prefixdb::front
