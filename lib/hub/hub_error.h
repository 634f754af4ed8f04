// Explains an answer of the Hub to the user, with advice.
#pragma once

#include <string>

#include "lib/base/error.h"
#include "lib/hub/http.h"
#include "lib/hub/names.h"
#include "lib/hub/settings.h"

namespace qwb::hub {

// The server's file is not the one it announced: another etag or size. The caller may ask for a new
// list once.
class ChangedOnServer : public Error {
 public:
  ChangedOnServer(const std::string& what, const std::string& where)
      : Error(ErrorKind::verification, what, where, "nothing wrong was kept; try again later") {}
  // The server lists a file that it does not have.
  explicit ChangedOnServer(const Error& error) : Error(error) {}
};

// An answer whose status is neither 2xx nor a redirect. `body` may be empty (HEAD). 401, 403, 404,
// 410: not_found, with advice on getting access; temporary failures (is_passing): not_found, "the
// Hub is not available"; else failed.
Error hub_error(const HubSettings& settings, const RepoName& repo, const Url& url,
                const HttpHead& head, const std::string& body);

// An exchange that did not complete: not_found (offline), or `failed` where TLS refused.
Error connection_error(const Url& url, const HttpEnd& end);

}  // namespace qwb::hub
