#include "lib/hub/transfer.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "lib/hub/hub_error.h"
#include "lib/hub/retry.h"

namespace qwb::hub {
namespace {

constexpr size_t kBuffer = 256 << 10;
constexpr size_t kMostWords = 16 << 10;

std::optional<int64_t> count_in(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

// "bytes 5-9/100"; total -1 for "*".
struct ContentRange {
  int64_t first = -1, last = -1, total = -1;
};
std::optional<ContentRange> content_range(const std::string& field) {
  const size_t dash = field.find('-'), slash = field.find('/');
  if (!field.starts_with("bytes ") || dash == std::string::npos || slash == std::string::npos ||
      slash < dash)
    return std::nullopt;
  const auto first = count_in(field.substr(6, dash - 6)),
             last = count_in(field.substr(dash + 1, slash - dash - 1));
  const std::string size = field.substr(slash + 1);
  const auto total = size == "*" ? std::optional<int64_t>(-1) : count_in(size);
  if (!first || !last || !total || *last < *first) return std::nullopt;
  return ContentRange{*first, *last, *total};
}

}  // namespace

Transfer::Transfer(Http& http, TransferSource& source, int64_t piece, int64_t begin, int64_t end)
    : http_(http),
      source_(source),
      piece_(piece),
      position_(source.whole ? 0 : begin),
      end_(source.whole ? source.partial->size() : end),
      route_(*source.settings, source.direct.empty() ? source.url : source.direct),
      from_direct_(!source.direct.empty()) {
  buffer_.reserve(kBuffer);
  ++source_.active;
  send();
}

Transfer::~Transfer() {
  http_.cancel(*this);
  --source_.active;
}

void Transfer::send() {
  std::string range;
  const bool all = position_ == 0 && end_ == source_.partial->size();
  if (!all) range = std::to_string(position_) + "-" + std::to_string(end_ - 1);
  ranged_ = !all;
  head_ = {};
  http_.start(route_.request(false, range), *this);
}

// The answer's headers, which come before the bytes, must agree with the Hub's list of files.
void Transfer::check_announcement(const HttpHead& head) const {
  if (!route_.at_endpoint()) return;
  // A redirect to another place of the Hub: that answer counts.
  if (Route::is_redirect(head) &&
      route_.url().resolve(head.field("location")).same_origin(route_.url()))
    return;
  std::string etag = head.field("x-linked-etag");
  if (etag.empty() && !Route::is_redirect(head)) etag = head.field("etag");
  etag = bare_etag(etag);
  if ((is_hex(etag, 64) || is_hex(etag, 40)) && etag != source_.etag)
    throw ChangedOnServer("the server's file is not the one it lists (etag " + etag.substr(0, 12) +
                              " instead of " + source_.etag.substr(0, 12) + ")",
                          source_.name);
  const auto size = count_in(head.field("x-linked-size"));
  if (size && *size != source_.partial->size())
    throw ChangedOnServer("the server's file has " + std::to_string(*size) + " bytes instead of " +
                              std::to_string(source_.partial->size()),
                          source_.name);
}

bool Transfer::on_head(const HttpHead& head) {
  head_ = head;
  words_.clear();
  body_ = Body::words;
  if (head.status < 400) check_announcement(head);
  if (head.status != 200 && head.status != 206) return true;
  const std::string encoding = head.field("content-encoding");
  if (!encoding.empty() && encoding != "identity")
    return refuse("compresses although it was asked not to");
  body_ = Body::content;
  return head.status == 200 ? begin_whole(head) : begin_range(head);
}

bool Transfer::refuse(const std::string& what) {
  refusal_ = "the server " + what;
  return false;
}

bool Transfer::begin_whole(const HttpHead& head) {
  const int64_t size = source_.partial->size();
  const auto length = count_in(head.field("content-length"));
  if (length && *length != size)
    throw ChangedOnServer(
        "the server sends " + std::to_string(*length) + " bytes instead of " + std::to_string(size),
        source_.name);
  if (ranged_) {
    source_.whole = true;
    // Other transfers fetch pieces of the same file: after they end, one transfer takes the whole
    // file.
    if (source_.active > 1) return refuse("ignores ranges");
    position_ = 0;
    end_ = size;
  }
  source_.direct = route_.url();
  return true;
}

bool Transfer::begin_range(const HttpHead& head) {
  const auto range = content_range(head.field("content-range"));
  if (!range || range->first != position_ || range->last >= end_)
    return refuse("answers with another range than the one asked for");
  if (range->total >= 0 && range->total != source_.partial->size())
    throw ChangedOnServer("the server's file has " + std::to_string(range->total) +
                              " bytes instead of " + std::to_string(source_.partial->size()),
                          source_.name);
  source_.direct = route_.url();
  return true;
}

bool Transfer::on_data(Bytes data) {
  if (body_ == Body::words) {
    words_ += as_text(
        data.first(std::min(data.size(), kMostWords - std::min(words_.size(), kMostWords))));
    return words_.size() < kMostWords;  // nobody needs more of it
  }
  const int64_t room = end_ - position_ - static_cast<int64_t>(buffer_.size());
  const bool too_much = static_cast<int64_t>(data.size()) > room;
  if (too_much) data = data.first(static_cast<size_t>(room));
  if (buffer_.size() + data.size() > kBuffer) flush();
  buffer_.insert(buffer_.end(), data.begin(), data.end());
  return too_much ? refuse("sends more bytes than it announced") : true;
}

void Transfer::flush() {
  if (buffer_.empty()) return;
  const int64_t fresh = source_.partial->accept(position_, buffer_);
  position_ += static_cast<int64_t>(buffer_.size());
  buffer_.clear();
  fresh_ += fresh;
  if (fresh > 0) source_.arrived(fresh);
}

void Transfer::on_end(const HttpEnd& end_of_exchange) {
  if (body_ == Body::content || !refusal_.empty()) return end_content(end_of_exchange);
  const bool answered = end_of_exchange.kind == HttpEnd::Kind::complete ||
                        (end_of_exchange.kind == HttpEnd::Kind::stopped && head_.status != 0);
  if (answered) return end_with_status();
  if (end_of_exchange.kind == HttpEnd::Kind::untrusted)
    throw connection_error(route_.url(), end_of_exchange);
  if (from_direct_) source_.direct = {};
  end({false, connection_error(route_.url(), end_of_exchange), std::nullopt, fresh_});
}

// A redirect, or an answer that is none of the file's bytes.
void Transfer::end_with_status() {
  if (Route::is_redirect(head_)) {
    route_.follow(head_);
    return send();
  }
  if (head_.status == 416)
    throw ChangedOnServer("the server's file ends before byte " + std::to_string(position_) +
                              " of " + std::to_string(source_.partial->size()),
                          source_.name);
  if (is_passing(head_.status)) {
    return end({false, hub_error(*source_.settings, *source_.repo, route_.url(), head_, words_),
                requested_wait(head_), fresh_});
  }
  if (route_.at_endpoint()) {
    const Error error = hub_error(*source_.settings, *source_.repo, route_.url(), head_, words_);
    if (head_.status == 404) throw ChangedOnServer(error);
    throw error;
  }
  // The storage behind the Hub: a signed URL may have expired, the Hub gives a new one.
  source_.direct = {};
  end({false,
       Error(ErrorKind::not_found, "the storage server answers " + std::to_string(head_.status),
             route_.url().shown(), "try again later"),
       requested_wait(head_), fresh_});
}

void Transfer::end_content(const HttpEnd& end_of_exchange) {
  flush();
  Result result;
  result.fresh = fresh_;
  result.complete = position_ == end_ && refusal_.empty();
  if (!refusal_.empty()) {
    result.failure = Error(ErrorKind::verification, refusal_, source_.name,
                           "nothing wrong was kept; try again later");
  } else if (!result.complete && end_of_exchange.kind == HttpEnd::Kind::complete) {
    result.failure = Error(ErrorKind::verification,
                           "the server ends the file at byte " + std::to_string(position_) +
                               " of " + std::to_string(source_.partial->size()),
                           source_.name, "what was downloaded is kept; try again later");
  } else if (!result.complete) {
    result.failure = connection_error(route_.url(), end_of_exchange);
  }
  end(std::move(result));
}

void Transfer::end(Result result) {
  result_ = std::move(result);
}

}  // namespace qwb::hub
