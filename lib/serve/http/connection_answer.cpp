// Writing answers, and watching over whoever waits for them.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/error.hpp>
#include <cerrno>
#include <utility>

#include "lib/serve/http/http_exchange.h"

namespace qwb::serve {
namespace {

using Tcp = boost::asio::ip::tcp;

constexpr size_t kWritten = size_t{64} << 10;        // bytes of one write
constexpr size_t kMostQueued = size_t{16} << 20;     // that a reader may be behind a stream
constexpr size_t kMostLingered = size_t{256} << 10;  // of a body that nobody reads
constexpr int kClientGone = 499;                     // nginx's status for its log

}  // namespace

void Connection::begin_exchange(Admission admission) {
  HttpRequest request{.method = method_,
                      .path = std::move(admission.path),
                      .body = {},
                      .id = request_id_,
                      .owner = std::move(admission.owner),
                      .if_none_match = std::move(admission.if_none_match)};
  answering_ = true;
  exchange_ =
      std::make_shared<HttpExchange>(shared_from_this(), *admission.route, std::move(request));
}

void Connection::answer_preflight() {
  answering_ = true;
  AnswerHeadText head = head_of_answer(204);
  head.length = 0;
  head.more = {{"Access-Control-Allow-Methods", "GET, POST"},
               {"Access-Control-Allow-Headers",
                "Authorization, Content-Type, X-Api-Key, "
                "X-Request-Id"},
               {"Access-Control-Max-Age", "600"}};
  complete_ = true;
  put(head_text(head));
}

void Connection::refuse(const ApiError& error) {
  answering_ = true;
  refused_record_.error = error.what();
  // What is left of the request would be taken for the next one.
  if (unread_ || error.status() == 400 || error.status() == 431) keep_alive_ = false;
  HttpAnswer answer{.status = error.status(), .body = json_line(error.json()) + "\n"};
  if (error.status() == 401) answer.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error.retry_after() > 0)
    answer.headers.emplace_back("Retry-After", std::to_string(error.retry_after()));
  send(std::move(answer));
}

AnswerHeadText Connection::head_of_answer(int status) const {
  return {.status = status,
          .type = {},
          .length = std::nullopt,
          .keep_alive = keep_alive_,
          .request_id = request_id_,
          .cors_origin = cors_origin_};
}

void Connection::send(HttpAnswer answer) {
  if (complete_ || streaming_) return;
  status_ = answer.status;
  AnswerHeadText head = head_of_answer(status_);
  head.type = std::move(answer.type);
  head.length = answer.body.size();
  head.more = std::move(answer.headers);
  head.cache = std::move(answer.cache);
  complete_ = true;
  const bool head_alone = method_ == "HEAD" || status_ == 304;
  put(head_text(head) + (head_alone ? std::string() : std::move(answer.body)));
}

void Connection::begin_stream() {
  if (complete_ || streaming_) return;
  status_ = 200;
  streaming_ = true;
  chunked_ = one_dot_one_;
  keep_alive_ = keep_alive_ && chunked_;
  AnswerHeadText head = head_of_answer(200);
  head.type = "text/event-stream";
  head.chunked = chunked_;
  put(head_text(head));
}

void Connection::write(std::string_view frames) {
  if (!streaming_ || complete_) return;
  if (queued_ > kMostQueued) return gone();
  put(chunked_ ? chunk_text(frames) : std::string(frames));
  wait_to_ping();
}

void Connection::end_stream() {
  if (!streaming_ || complete_) return;
  complete_ = true;
  put(chunked_ ? "0\r\n\r\n" : "");
}

void Connection::put(std::string bytes) {
  queued_ += bytes.size();
  // Small ones go together; the first may be on its way.
  if (output_.size() > 1 && output_.back().size() < kWritten)
    output_.back() += bytes;
  else
    output_.push_back(std::move(bytes));
  if (!writing_) write_some();
}

void Connection::write_some() {
  if (output_.empty()) {
    writing_ = false;
    if (complete_) answered();
    return;
  }
  writing_ = true;
  const std::string& first = output_.front();
  const size_t count = std::min(kWritten, first.size() - written_);
  stream_.expires_after(host_.settings.write_time);
  stream_.async_write_some(boost::asio::buffer(first.data() + written_, count),
                           [self = shared_from_this()](Code code, size_t bytes) {
                             if (self->closed_) return;
                             if (code) return self->gone();
                             self->written_ += bytes;
                             self->queued_ -= bytes;
                             if (self->written_ == self->output_.front().size()) {
                               self->output_.pop_front();
                               self->written_ = 0;
                             }
                             self->write_some();
                           });
}

void Connection::answered() {
  tell(log_of_request());
  answering_ = false;
  exchange_ = nullptr;
  ping_.cancel();
  Code ignored;
  stream_.socket().cancel(ignored);  // the watch
  if (!keep_alive_ || host_.service.draining()) return linger();
  read_head(host_.settings.idle_time);
}

// Closing at once would make the system send a reset where something of the request was not read,
// and the answer would be lost on its way.
void Connection::linger() {
  Code ignored;
  stream_.socket().shutdown(Tcp::socket::shutdown_send, ignored);
  stream_.expires_after(std::chrono::seconds(1));
  struct Rest {
    std::array<char, 16384> bytes{};
    size_t read = 0;
  };
  const auto rest = std::make_shared<Rest>();
  const auto next = std::make_shared<std::function<void()>>();
  *next = [self = shared_from_this(), rest, weak = std::weak_ptr(next)] {
    const auto again = weak.lock();
    self->stream_.async_read_some(boost::asio::buffer(rest->bytes),
                                  [self, rest, again](Code code, size_t bytes) {
                                    rest->read += bytes;
                                    if (code || rest->read > kMostLingered) return self->close();
                                    (*again)();
                                  });
  };
  (*next)();
}

RequestLog Connection::log_of_request() const {
  RequestLog log;
  log.id = request_id_;
  log.peer = peer_;
  log.method = method_;
  log.path = path_;
  log.status = status_ != 0 ? status_ : kClientGone;
  log.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  log.record = exchange_ != nullptr ? exchange_->noted() : refused_record_;
  log.quiet = exchange_ != nullptr && exchange_->quiet();
  return log;
}

void Connection::tell(const RequestLog& log) {
  host_.service.count(log.record, log.status);
  host_.log(log);
}

void Connection::watch() {
  stream_.socket().async_wait(
      Tcp::socket::wait_read,
      [self = shared_from_this(), turn = turn_](Code code) { self->on_readable(code, turn); });
}

// Something has come, or the end of what can come.
void Connection::on_readable(Code code, int64_t turn) {
  if (closed_ || turn != turn_ || exchange_ == nullptr || code) return;
  char byte = 0;
  const ssize_t count = ::recv(stream_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (count > 0) return watch_for_reset();  // the next request, which has to wait
  if (count == 0) return probe();
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return watch();
  gone();
}

// The other side writes no more. It may still read: then it takes this for the beginning of an
// answer. Where nobody is any more, the system there sends a reset.
void Connection::probe() {
  if (complete_) return;
  if (streaming_)
    put(chunked_ ? chunk_text(":\n\n") : ":\n\n");
  else if (one_dot_one_)
    put("HTTP/1.1 102 Processing\r\n\r\n");
  watch_for_reset();
}

void Connection::watch_for_reset() {
  stream_.socket().async_wait(Tcp::socket::wait_error,
                              [self = shared_from_this(), turn = turn_](Code code) {
                                if (code || turn != self->turn_ || self->exchange_ == nullptr)
                                  return;
                                self->gone();
                              });
}

void Connection::gone() {
  if (!closed_ && answering_ && !complete_) {
    status_ = kClientGone;
  }
  close();
}

void Connection::wait_to_ping() {
  if (host_.settings.ping_time.count() == 0) return;
  ping_.expires_after(host_.settings.ping_time);
  ping_.async_wait([self = shared_from_this(), turn = turn_](Code code) {
    if (code || self->closed_ || turn != self->turn_ || self->complete_) return;
    if (self->streaming_)
      self->write(":\n\n");
    else
      self->wait_to_ping();
  });
}

}  // namespace qwb::serve
