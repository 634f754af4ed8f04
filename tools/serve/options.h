// What qwb-serve is told on its command line.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "lib/serve/api/memory_plan.h"
#include "lib/serve/api/service.h"
#include "lib/serve/http/server.h"
#include "tools/common/int8_flags.h"
#include "tools/common/meter_flags.h"

namespace qwb {

struct ServeOptions {
  std::vector<std::string> models;  // [NAME=]MODEL
  serve::ServerSettings server;
  serve::ServiceSettings service;
  serve::MemoryWishes memory;
  serve::GivenSampling sampling;
  std::string key_file, log_format = "text";
  bool no_auth = false, no_cache_prompt = false;
  double shutdown_timeout = 10, sse_ping = 15;
  int64_t max_body = 4'000'000, kv_memory = 0;
  std::vector<std::string> adapters;  // [NAME=]DIR[:SCALE]
  Int8Flags int8;
  MeterFlags meter;
  std::string report;
  bool no_energy = false;
  double idle = 3;
};

void add_serve_options(CLI::App& app, ServeOptions& o);
// Reads the keys and brings what concerns the network into the server's settings. Throws usage for
// what makes no sense, and for other addresses than this machine's own without a key.
void check_network(ServeOptions& o);
// Reads the file of --report. Throws usage for what is no page of HTML, and what reading throws.
void read_report(ServeOptions& o);

}  // namespace qwb
