#include "lib/serve/http/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <list>
#include <utility>

#include "lib/base/interrupt.h"
#include "lib/serve/http/connection.h"

namespace qwb::serve {

namespace asio = boost::asio;
using Endpoint = asio::ip::tcp::endpoint;
using Failure = boost::system::error_code;

namespace {

constexpr std::chrono::milliseconds kLook{50};      // between two looks at the stop token
constexpr std::chrono::milliseconds kFlush{2'000};  // for the last bytes of answers cut off

Endpoint endpoint_of(const ServerSettings& settings) {
  Failure failure;
  const auto address = asio::ip::make_address(
      settings.address == "localhost" ? "127.0.0.1" : settings.address, failure);
  if (failure)
    throw Error(ErrorKind::usage, "--host " + settings.address + " is no address of a machine", {},
                "give 127.0.0.1, ::1, 0.0.0.0 or another IP address");
  return {address, settings.port};
}

}  // namespace

class Server::Impl {
 public:
  Impl(Service& service, const ServerSettings& settings, std::function<void(const RequestLog&)> log)
      : service_(service),
        settings_(settings),
        acceptor_(context_),
        timer_(context_),
        host_{service_, settings_, std::move(log),
              [this](std::function<void()> work) {
                asio::post(pool_, [work = std::move(work)] {
                  leave_signals_to_main_thread();
                  work();
                });
              },
              [this](const Connection* connection) { remove(connection); }} {
    listen();
  }

  // Whoever still holds a connection must be through with it before it goes.
  ~Impl() {
    service_.engine().stop();
    pool_.join();
    context_.restart();
    close_all();
    context_.poll();
  }

  uint16_t port() const { return port_; }

  bool run(const StopToken& stop) {
    stop_ = stop;
    accept();
    look();
    context_.run();
    return !cut_off_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int kWorkers = 2;

  void listen() {
    const Endpoint endpoint = endpoint_of(settings_);
    Failure failure;
    acceptor_.open(endpoint.protocol(), failure);
    if (!failure) acceptor_.set_option(asio::socket_base::reuse_address(true), failure);
    if (!failure) acceptor_.bind(endpoint, failure);
    if (!failure) acceptor_.listen(asio::socket_base::max_listen_connections, failure);
    if (!failure) port_ = acceptor_.local_endpoint(failure).port();
    if (!failure) return;
    throw Error(ErrorKind::failed,
                fmt::format("cannot listen on {} port {}: {}", settings_.address, settings_.port,
                            failure.message()),
                {}, "choose another --port, or 0 for any that is free");
  }

  void accept() {
    acceptor_.async_accept([this](Failure failure, asio::ip::tcp::socket socket) {
      if (failure == asio::error::operation_aborted) return;
      if (!failure) take(std::move(socket));
      // Out of descriptors: those that wait have to wait a little longer.
      if (failure) return retry_accept();
      accept();
    });
  }

  void retry_accept() {
    const auto pause = std::make_shared<asio::steady_timer>(context_, kLook);
    pause->async_wait([this, pause](Failure failure) {
      if (!failure) accept();
    });
  }

  void take(asio::ip::tcp::socket socket) {
    if (connections_.size() >= settings_.connections) make_room();
    if (connections_.size() >= settings_.connections) return;  // all of them are at work
    connections_.push_back(std::make_shared<Connection>(host_, std::move(socket)));
    connections_.back()->start();
  }

  // The one that has been there longest without asking anything goes.
  void make_room() {
    const auto idle = std::find_if(connections_.begin(), connections_.end(),
                                   [](const auto& connection) { return connection->idle(); });
    if (idle == connections_.end()) return;
    const std::shared_ptr<Connection> connection = *idle;
    connection->close();
  }

  void remove(const Connection* connection) {
    connections_.remove_if([&](const auto& one) { return one.get() == connection; });
  }

  bool at_work() const {
    return std::any_of(connections_.begin(), connections_.end(),
                       [](const auto& connection) { return !connection->idle(); });
  }

  void look() {
    timer_.expires_after(kLook);
    timer_.async_wait([this](Failure failure) {
      if (failure) return;
      if (stop_.requested() && !service_.draining()) {
        service_.drain();
        draining_since_ = Clock::now();
      }
      if (!service_.draining() || goes_on()) look();
    });
  }

  // Whether answers still run while the server drains; those that take too long are cut off.
  bool goes_on() {
    const auto time = Clock::now() - draining_since_;
    if (at_work() && time < settings_.shutdown_time) return true;
    if (at_work() && !cut_off_) {
      cut_off_ = true;
      service_.engine().stop();  // every answer ends, as an error
      return true;
    }
    if (at_work() && time < settings_.shutdown_time + kFlush) return true;
    acceptor_.close();
    close_all();
    return false;
  }

  void close_all() {
    while (!connections_.empty()) {
      const std::shared_ptr<Connection> connection = connections_.front();
      connection->close();
    }
  }

  Service& service_;
  const ServerSettings settings_;
  asio::io_context context_{1};
  asio::thread_pool pool_{kWorkers};
  asio::ip::tcp::acceptor acceptor_;
  asio::steady_timer timer_;
  ConnectionHost host_;
  std::list<std::shared_ptr<Connection>> connections_;  // oldest first
  StopToken stop_;
  Clock::time_point draining_since_;
  bool cut_off_ = false;
  uint16_t port_ = 0;
};

bool is_loopback(const std::string& address) {
  Failure failure;
  const auto parsed = asio::ip::make_address(address, failure);
  return address == "localhost" || (!failure && parsed.is_loopback());
}

Server::Server(Service& service, const ServerSettings& settings,
               std::function<void(const RequestLog&)> log)
    : impl_(std::make_unique<Impl>(service, settings, std::move(log))) {}

Server::~Server() = default;

uint16_t Server::port() const {
  return impl_->port();
}

bool Server::run(const StopToken& stop) {
  return impl_->run(stop);
}

}  // namespace qwb::serve
