// A request on a connection, for those who answer it in other threads: what they say is handed to
// the thread that serves connections.
#pragma once

#include <boost/asio/post.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "lib/serve/http/connection.h"

namespace qwb::serve {

class HttpExchange : public Exchange, public std::enable_shared_from_this<HttpExchange> {
 public:
  HttpExchange(std::shared_ptr<Connection> connection, const Route& route, HttpRequest request)
      : connection_(std::move(connection)), route_(route), request_(std::move(request)) {}

  void take_body(std::string body) { request_.body = std::move(body); }
  // Calls the route's handler, here or where work may take a while.
  void run() {
    const auto work = [self = shared_from_this()] {
      handle(self->route_, self->connection_->host_.service, self);
    };
    route_.quick ? work() : later(work);
  }
  bool quiet() const { return route_.quick; }

  const HttpRequest& request() const override { return request_; }
  StopToken stopped() const override { return stop_.token(); }
  void stop() override { stop_.request(); }
  void send(HttpAnswer answer) override {
    hand_over([answer = std::move(answer)](Connection& c) mutable { c.send(std::move(answer)); });
  }
  void begin_stream() override {
    hand_over([](Connection& c) { c.begin_stream(); });
  }
  void write(std::string frames) override {
    hand_over([frames = std::move(frames)](Connection& c) { c.write(frames); });
  }
  void end_stream() override {
    hand_over([](Connection& c) { c.end_stream(); });
  }
  void later(std::function<void()> work) override { connection_->host_.later(std::move(work)); }
  void note(const std::function<void(RequestRecord&)>& change) override {
    const std::lock_guard lock(mutex_);
    change(record_);
  }
  RequestRecord noted() const {
    const std::lock_guard lock(mutex_);
    return record_;
  }
  // Whoever asked has gone: `log` is told when nobody works on the request any more, who then knows
  // what was made.
  void tell_later(RequestLog log) { left_ = std::move(log); }
  ~HttpExchange() override {
    if (!left_) return;
    left_->record = record_;
    left_->record.finish = "gone";
    boost::asio::post(
        connection_->stream_.get_executor(),
        [connection = connection_, log = std::move(*left_)] { connection->tell(log); });
  }

 private:
  // Does nothing if the connection has gone on without this exchange.
  template <class Call>
  void hand_over(Call call) {
    boost::asio::post(connection_->stream_.get_executor(),
                      [self = shared_from_this(), call = std::move(call)]() mutable {
                        if (self->connection_->exchange_ == self) call(*self->connection_);
                      });
  }

  std::shared_ptr<Connection> connection_;
  const Route& route_;
  HttpRequest request_;
  StopSource stop_;
  mutable std::mutex mutex_;
  RequestRecord record_;
  std::optional<RequestLog> left_;
};

}  // namespace qwb::serve
