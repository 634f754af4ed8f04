// One connection: reads a request, hands it on, writes its answer, and notices when whoever asked
// has gone.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "lib/serve/http/gate.h"
#include "lib/serve/http/head_text.h"
#include "lib/serve/http/server.h"

namespace qwb::serve {

class Connection;

// What connections share. Of the thread that serves them.
struct ConnectionHost {
  Service& service;
  const ServerSettings& settings;
  std::function<void(const RequestLog&)> log;
  std::function<void(std::function<void()>)> later;  // in a thread of the pool
  std::function<void(const Connection*)> closed;     // it is over
};

class HttpExchange;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(ConnectionHost& host, boost::asio::ip::tcp::socket socket);
  void start() { read_head(host_.settings.head_time); }
  // Waits for a request, or for the rest of one.
  bool idle() const { return !answering_ || (unread_ && !writing_); }
  // At once.
  void close();

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  using Code = boost::beast::error_code;
  friend class HttpExchange;

  // Reading: read_head, on_head, [say_continue], read_body, on_body.
  void read_head(std::chrono::milliseconds time);
  void on_head(Code code);
  void continue_then_read_body();
  void read_body();
  void on_body(Code code);
  RequestHead head_of_request() const;
  void refuse_broken(Code code);

  // Answering, all through the exchange that runs.
  void begin_exchange(Admission admission);
  void answer_preflight();
  void refuse(const ApiError& error);
  void send(HttpAnswer answer);
  void begin_stream();
  void write(std::string_view frames);
  void end_stream();
  AnswerHeadText head_of_answer(int status) const;
  void put(std::string bytes);
  void write_some();
  void answered();
  void linger();
  RequestLog log_of_request() const;
  void tell(const RequestLog& log);

  // Watching over the other side while it waits.
  void watch();
  void on_readable(Code code, int64_t turn);
  void probe();
  void watch_for_reset();
  void gone();
  void wait_to_ping();

  ConnectionHost& host_;
  boost::beast::tcp_stream stream_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  boost::asio::steady_timer ping_;
  std::string peer_, local_address_;

  // Of the request that is being answered.
  std::shared_ptr<HttpExchange> exchange_;
  std::string cors_origin_, request_id_, method_, path_;
  std::chrono::steady_clock::time_point start_;
  RequestRecord refused_record_;  // of a request that never became an exchange
  bool answering_ = false, streaming_ = false, chunked_ = false, keep_alive_ = false;
  bool complete_ = false;    // all of the answer was put
  bool unread_ = false;      // the body was not read: the connection ends with this answer
  bool one_dot_one_ = true;  // HTTP/1.1
  int status_ = 0;
  int64_t turn_ = 0;  // requests so far: a wait of an earlier one means nothing

  std::deque<std::string> output_;
  size_t written_ = 0;  // of the first
  size_t queued_ = 0;   // bytes of all
  bool writing_ = false, closed_ = false;
};

}  // namespace qwb::serve
