// Follows redirects without leaking the token, which goes to the endpoint's own origin only.
#pragma once

#include <string>

#include "lib/hub/http.h"
#include "lib/hub/settings.h"
#include "lib/hub/url.h"

namespace qwb::hub {

class Route {
 public:
  // Begins at `url`, whose origin need not be the endpoint's.
  Route(const HubSettings& settings, Url url);

  // The request of the current hop.
  HttpRequest request(bool head_only, const std::string& range) const;
  // True if `head` is a redirect that has a target.
  static bool is_redirect(const HttpHead& head);
  // Goes where it leads. Throws `failed` after ten hops, for a target that is no http(s) URL, and
  // for one that leaves https for http.
  void follow(const HttpHead& head);

  const Url& url() const { return url_; }
  // The current hop goes to the endpoint's origin: its X-... fields and etags are the Hub's word.
  bool at_endpoint() const { return at_endpoint_; }

 private:
  void arrive(Url url);
  const HubSettings& settings_;
  Url endpoint_, url_;
  int hops_ = 0;
  bool at_endpoint_ = false;
};

}  // namespace qwb::hub
