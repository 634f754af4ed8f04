// One request and the way of its answer. The server implements it on a connection, tests in memory.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/stop.h"

namespace qwb::serve {

struct HttpRequest {
  std::string method;  // "POST"
  std::string path;    // "/v1/models", decoded, without the query
  std::string body;
  std::string id;                  // X-Request-Id: the caller's or one that was made
  std::string owner;               // whose key it came with; empty without keys
  std::string if_none_match = {};  // the ETag of what the caller has already
};

struct HttpAnswer {
  int status = 200;
  std::string type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers = {};  // more of them
  std::string cache = "no-store";                                 // Cache-Control
};

// What the log and the metrics say of a request once it is over.
struct RequestRecord {
  std::string model, finish, error;
  int64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  double queue_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
  bool generated = false;  // the engine was asked
};

// May be called by any thread, one after the other. The request lives as long as this.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;
  // Requested once whoever asked has gone.
  virtual StopToken stopped() const = 0;
  // Nobody waits for what the engine still does for it.
  virtual void stop() = 0;
  // The whole answer, or: a stream of events, frame by frame.
  virtual void send(HttpAnswer answer) = 0;
  virtual void begin_stream() = 0;
  virtual void write(std::string frames) = 0;
  virtual void end_stream() = 0;
  // Runs work that may take a while, in a thread that neither serves connections nor the model.
  virtual void later(std::function<void()> work) = 0;
  // Changes what will be told of it.
  virtual void note(const std::function<void(RequestRecord&)>& change) = 0;
};

}  // namespace qwb::serve
