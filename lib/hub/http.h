// HTTP exchanges, many at once, in one thread (libcurl's multi interface). An exchange is one
// request and one answer. Redirects are not followed here: the caller that follows them decides who
// gets the token. Certificates are verified, HTTP/1.1 is spoken (ranges of a file then travel on
// connections of their own).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "lib/base/bytes.h"
#include "lib/base/stop.h"
#include "lib/hub/settings.h"
#include "lib/hub/url.h"

namespace qwb::hub {

struct HttpRequest {
  Url url;
  bool head_only = false;  // HEAD
  std::string token;       // sent as a bearer token if not empty
  std::string range;       // "0-499", empty: the whole
};

struct HttpHead {
  int status = 0;
  std::map<std::string, std::string> fields;  // lower-case names; of a repeated one the last
  std::string field(const std::string& name) const {
    const auto found = fields.find(name);
    return found != fields.end() ? found->second : std::string();
  }
};

// W/"abc" -> abc
inline std::string bare_etag(std::string etag) {
  if (etag.starts_with("W/")) etag.erase(0, 2);
  std::erase(etag, '"');
  return etag;
}

// How an exchange ended.
struct HttpEnd {
  enum class Kind {
    complete,     // the answer came whole, as far as HTTP can tell
    stopped,      // the handler stopped it
    cut,          // the connection broke, before or in the answer
    stalled,      // nothing came for too long
    unreachable,  // no such host, refused, no answer to the connection
    untrusted,    // TLS: the server did not prove to be who it should be
  };
  Kind kind = Kind::complete;
  std::string reason;  // curl's words
};

// Receives what comes. May throw: Http::step() then lets the exception out. The handler must
// outlive the exchange or cancel it.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // The head of the answer (those of status 1xx are not shown). False stops the exchange.
  virtual bool on_head(const HttpHead& head) = 0;
  virtual bool on_data(Bytes data) = 0;
  // The exchange is over, the handler may start another one.
  virtual void on_end(const HttpEnd& end) = 0;
};

class Http {
 public:
  explicit Http(const HubSettings& settings, StopToken stop = {});
  ~Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;

  void start(const HttpRequest& request, HttpHandler& handler);
  // Ends the handler's exchange without notifying it; no effect if it has none.
  void cancel(const HttpHandler& handler);
  // Lets the exchanges run, for at most `seconds` if nothing happens. Throws interrupted when a
  // stop is requested, and what handlers throw.
  void step(double seconds);
  // Ends a step() that waits. From any thread.
  void wake();

 private:
  struct Exchange;
  struct State;
  void finish_ended();
  void stop_stalled();
  void remove(Exchange& exchange);
  std::unique_ptr<State> state_;
  StopToken stop_;
};

}  // namespace qwb::hub
