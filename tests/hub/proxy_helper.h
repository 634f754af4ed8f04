// An HTTP proxy on 127.0.0.1 that tunnels CONNECT requests to this machine, as company networks
// have it.
#pragma once

#include <atomic>
#include <list>
#include <mutex>
#include <string>
#include <thread>

namespace qwb::testing {

class ConnectProxy {
 public:
  ConnectProxy();
  ~ConnectProxy();
  ConnectProxy(const ConnectProxy&) = delete;
  ConnectProxy& operator=(const ConnectProxy&) = delete;

  std::string url() const;
  int tunnels() const { return tunnels_; }
  // The heads of all requests to the proxy itself.
  std::string heads() const;

 private:
  void accept_all();
  void serve(int client);
  void shuttle(int client, int server) const;

  int listener_ = -1;
  int port_ = 0;
  std::atomic<int> tunnels_{0};
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::string heads_;
  std::list<std::thread> connections_;
  std::thread acceptor_;
};

}  // namespace qwb::testing
