#include "lib/hub/route.h"

#include <utility>

#include "lib/base/error.h"

namespace qwb::hub {
namespace {

constexpr int kMostHops = 10;

}  // namespace

Route::Route(const HubSettings& settings, Url url)
    : settings_(settings), endpoint_(Url::parse(settings.endpoint)) {
  arrive(std::move(url));
}

void Route::arrive(Url url) {
  url_ = std::move(url);
  at_endpoint_ = url_.same_origin(endpoint_);
}

HttpRequest Route::request(bool head_only, const std::string& range) const {
  HttpRequest request;
  request.url = url_;
  request.head_only = head_only;
  request.range = range;
  if (at_endpoint_) request.token = settings_.token;
  return request;
}

bool Route::is_redirect(const HttpHead& head) {
  const int s = head.status;
  return (s == 301 || s == 302 || s == 303 || s == 307 || s == 308) &&
         !head.field("location").empty();
}

void Route::follow(const HttpHead& head) {
  if (++hops_ > kMostHops)
    throw Error(ErrorKind::failed, "the server redirects without end", url_.shown(),
                "try again later");
  Url next = url_.resolve(head.field("location"));
  if (url_.secure() && !next.secure())
    throw Error(ErrorKind::failed, "the server redirects from https to http", next.shown(),
                "refused: nothing would protect the download");
  arrive(std::move(next));
}

}  // namespace qwb::hub
