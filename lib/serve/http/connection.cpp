// Reading requests.
#include "lib/serve/http/connection.h"

#include <algorithm>
#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <cctype>
#include <utility>

#include "lib/serve/http/http_exchange.h"

namespace qwb::serve {

namespace http = boost::beast::http;

namespace {

constexpr uint32_t kHeadLimit = 8192;  // bytes, the request's line included
constexpr size_t kLongestId = 64;

std::string address_text(const boost::asio::ip::tcp::endpoint& endpoint) {
  return endpoint.address().to_string();
}

// The caller's id of its request, if it is one that fits a line of a log.
std::string id_of(std::string_view given) {
  const bool plain = std::all_of(given.begin(), given.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
  });
  return plain && !given.empty() && given.size() <= kLongestId ? std::string(given)
                                                               : random_name(16);
}

}  // namespace

Connection::Connection(ConnectionHost& host, boost::asio::ip::tcp::socket socket)
    : host_(host), stream_(std::move(socket)), ping_(stream_.get_executor()) {
  Code ignored;
  stream_.socket().set_option(boost::asio::ip::tcp::no_delay(true), ignored);
  peer_ = address_text(stream_.socket().remote_endpoint(ignored));
  local_address_ = address_text(stream_.socket().local_endpoint(ignored));
}

void Connection::close() {
  if (std::exchange(closed_, true)) return;
  const std::shared_ptr<Connection> self = shared_from_this();
  ping_.cancel();
  if (exchange_ != nullptr) exchange_->stop();
  if (answering_ && exchange_ != nullptr && exchange_->noted().generated)
    exchange_->tell_later(log_of_request());
  else if (answering_)
    tell(log_of_request());
  exchange_ = nullptr;
  Code ignored;
  stream_.socket().close(ignored);
  stream_.cancel();
  host_.closed(this);
}

void Connection::read_head(std::chrono::milliseconds time) {
  parser_.emplace();
  parser_->header_limit(kHeadLimit);
  parser_->body_limit(host_.settings.gate.body_limit);
  stream_.expires_after(time);
  http::async_read_header(stream_, buffer_, *parser_,
                          [self = shared_from_this()](Code code, size_t) { self->on_head(code); });
}

// What is no HTTP, or too much of it, gets an answer. What took too long does not: the stream is
// closed by then.
void Connection::refuse_broken(Code code) {
  if (code == http::error::header_limit)
    return refuse({431, "the head of a request may have 8192 bytes"});
  if (code == http::error::body_limit) return refuse({413, "the body has too many bytes"});
  const bool broken = code.category() == make_error_code(http::error::bad_method).category() &&
                      code != http::error::end_of_stream && code != http::error::partial_message;
  if (broken) return refuse({400, "the request is no HTTP: " + code.message()});
  close();
}

RequestHead Connection::head_of_request() const {
  RequestHead head;
  const auto& request = parser_->get();
  const auto text = [](auto view) { return std::string(view.data(), view.size()); };
  head.method = text(request.method_string());
  head.target = text(request.target());
  for (const auto& field : request) {
    std::string name = text(field.name_string());
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    head.fields.emplace_back(std::move(name), text(field.value()));
  }
  head.local_address = local_address_;
  head.chunked = parser_->chunked();
  if (const auto length = parser_->content_length()) head.content_length = *length;
  return head;
}

void Connection::on_head(Code code) {
  if (closed_) return;
  start_ = std::chrono::steady_clock::now();
  ++turn_;
  answering_ = false;
  keep_alive_ = complete_ = streaming_ = chunked_ = unread_ = false;
  refused_record_ = {};
  status_ = 0;
  cors_origin_.clear();
  request_id_ = random_name(16);
  method_ = path_ = "-";
  if (code) return refuse_broken(code);
  const RequestHead head = head_of_request();
  method_ = head.method;
  path_ = head.target.substr(0, head.target.find('?'));
  request_id_ = id_of(head.first("x-request-id"));
  one_dot_one_ = parser_->get().version() >= 11;
  unread_ = !parser_->is_done() && (head.chunked || head.content_length.value_or(0) > 0);
  keep_alive_ = parser_->get().keep_alive();
  try {
    Admission admission = admit(host_.settings.gate, head, cors_origin_);
    if (admission.route == nullptr) return answer_preflight();
    if (host_.service.draining() && admission.route->needs_key)
      throw ApiError(503, "the server is shutting down");
    begin_exchange(std::move(admission));
  } catch (const ApiError& error) {
    return refuse(error);
  }
  if (head.first("expect") == "100-continue" && one_dot_one_) return continue_then_read_body();
  read_body();
}

void Connection::continue_then_read_body() {
  static const std::string text = "HTTP/1.1 100 Continue\r\n\r\n";
  stream_.expires_after(host_.settings.write_time);
  boost::asio::async_write(stream_, boost::asio::buffer(text),
                           [self = shared_from_this()](Code code, size_t) {
                             if (code) return self->close();
                             self->read_body();
                           });
}

void Connection::read_body() {
  stream_.expires_after(host_.settings.body_time);
  http::async_read(stream_, buffer_, *parser_,
                   [self = shared_from_this()](Code code, size_t) { self->on_body(code); });
}

void Connection::on_body(Code code) {
  if (closed_) return;
  if (code) {
    exchange_ = nullptr;
    return refuse_broken(code);
  }
  unread_ = false;
  exchange_->take_body(std::move(parser_->get().body()));
  watch();
  wait_to_ping();
  exchange_->run();
}

}  // namespace qwb::serve
