// The HTTP server: one thread serves all connections and does nothing that takes long, so that
// /health answers at once whatever else goes on; requests are read and prompts tokenized by two
// others; the engine's thread computes.
//
// What comes from outside is bounded: heads of 8 KB, bodies, connections, and the time that each
// part of a request or an answer may take.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "lib/base/stop.h"
#include "lib/serve/api/service.h"
#include "lib/serve/http/gate.h"

namespace qwb::serve {

struct ServerSettings {
  std::string address = "127.0.0.1";  // or another of this machine's, "0.0.0.0" and "::" for all
  uint16_t port = 8080;               // 0: any that is free
  GateSettings gate;
  size_t connections = 512;  // at once; beyond, one that waits for its request makes room
  std::chrono::milliseconds head_time{10'000};      // for the head of a first request
  std::chrono::milliseconds idle_time{60'000};      // for that of a further one
  std::chrono::milliseconds body_time{30'000};      // for a body
  std::chrono::milliseconds write_time{30'000};     // for every 64 KB of an answer
  std::chrono::milliseconds ping_time{15'000};      // a stream that is silent for so long gets a
                                                    // comment; 0: never
  std::chrono::milliseconds shutdown_time{10'000};  // that answers have left after a stop
};

// A request that is over.
struct RequestLog {
  std::string id, peer, method, path;
  int status = 0;      // 499: whoever asked went before the answer began
  bool quiet = false;  // asked by machines all day long: /health, /metrics
  double seconds = 0;
  RequestRecord record;
};

// Whether only this machine itself can ask at the address.
bool is_loopback(const std::string& address);

class Server {
 public:
  // Takes the port. Throws `failed` where that is impossible. `log` is called by the thread of
  // run().
  Server(Service& service, const ServerSettings& settings,
         std::function<void(const RequestLog&)> log);
  ~Server();
  uint16_t port() const;
  // Serves until a stop is requested, then lets the answers that run end and takes no more: 503.
  // False: some had to be cut off.
  bool run(const StopToken& stop);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace qwb::serve
