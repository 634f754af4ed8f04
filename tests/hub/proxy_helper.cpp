#include "tests/hub/proxy_helper.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>

namespace qwb::testing {
namespace {

constexpr int kPollMilliseconds = 50;

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool readable(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, kPollMilliseconds) > 0;
}

bool send_all(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t count = ::send(fd, data, size, MSG_NOSIGNAL);
    if (count <= 0) return false;
    data += count;
    size -= static_cast<size_t>(count);
  }
  return true;
}

// What can be read now goes over; false at the end.
bool pass_on(int from, int to) {
  char buffer[1 << 16];
  const ssize_t count = ::recv(from, buffer, sizeof(buffer), 0);
  return count > 0 && send_all(to, buffer, static_cast<size_t>(count));
}

}  // namespace

ConnectProxy::ConnectProxy() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof(address);
  if (listener_ < 0 || ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(listener_, 64) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("no port for the proxy");
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

ConnectProxy::~ConnectProxy() {
  stopping_ = true;
  acceptor_.join();
  for (std::thread& connection : connections_) connection.join();
  ::close(listener_);
}

std::string ConnectProxy::url() const {
  return "http://127.0.0.1:" + std::to_string(port_);
}

std::string ConnectProxy::heads() const {
  const std::lock_guard lock(mutex_);
  return heads_;
}

void ConnectProxy::accept_all() {
  while (!stopping_) {
    if (!readable(listener_)) continue;
    const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client >= 0) connections_.emplace_back([this, client] { serve(client); });
  }
}

void ConnectProxy::serve(int client) {
  std::string head;
  char byte = 0;
  while (!stopping_ && !head.ends_with("\r\n\r\n") && head.size() < 10'000) {
    if (!readable(client)) continue;
    if (::recv(client, &byte, 1, 0) != 1) break;
    head += byte;
  }
  {
    const std::lock_guard lock(mutex_);
    heads_ += head;
  }
  const size_t colon = head.find(':');
  const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address =
      loopback(colon == std::string::npos ? 0 : std::atoi(head.c_str() + colon + 1));
  const std::string answer = "HTTP/1.1 200 Connection established\r\nProxy-Agent: a test\r\n\r\n";
  if (head.starts_with("CONNECT ") &&
      ::connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
      send_all(client, answer.data(), answer.size())) {
    ++tunnels_;
    shuttle(client, server);
  }
  ::close(server);
  ::close(client);
}

void ConnectProxy::shuttle(int client, int server) const {
  pollfd both[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
  while (!stopping_) {
    if (::poll(both, 2, kPollMilliseconds) <= 0) continue;
    if (both[0].revents != 0 && !pass_on(client, server)) return;
    if (both[1].revents != 0 && !pass_on(server, client)) return;
  }
}

}  // namespace qwb::testing
