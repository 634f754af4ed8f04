#include "tools/serve/options.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "lib/base/error.h"
#include "lib/base/text_file.h"
#include "tools/common/adapter_flags.h"
#include "tools/common/command_line.h"
#include "tools/common/number_checks.h"

namespace qwb {
namespace {

template <class T>
CLI::Option* add_optional(CLI::App& app, const std::string& name, std::optional<T>& value,
                          const std::string& help, const std::string& type) {
  return app
      .add_option_function<T>(
          name, [&value](const T& given) { value = given; }, help)
      ->type_name(type);
}

void add_network(CLI::App& app, ServeOptions& o) {
  constexpr const char* kGroup = "Network";
  const auto group = [](CLI::Option* option) { option->group(kGroup); };
  group(app.add_option("--host", o.server.address, "IP address to listen on; 0.0.0.0: all of them")
            ->capture_default_str()
            ->type_name("ADDRESS"));
  group(app.add_option("--port", o.server.port, "Port to listen on; 0: any that is free")
            ->capture_default_str()
            ->type_name("PORT"));
  group(app.add_option("--api-key-file", o.key_file,
                       "Whoever asks needs one of the keys in this file, one a line (or the one in "
                       "$QWB_API_KEY)")
            ->type_name("FILE"));
  group(app.add_flag("--no-auth", o.no_auth,
                     "Listen on other addresses than this machine's own without any key"));
  group(app.add_option("--allow-host", o.server.gate.hosts,
                       "Name by which the server may be asked, beside localhost and addresses; may "
                       "be repeated")
            ->type_name("NAME")
            ->expected(1)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll));
  group(app.add_option("--cors-origin", o.server.gate.origins,
                       "Web pages of this origin (https://example.org) may ask and read answers; "
                       "may be repeated")
            ->type_name("ORIGIN")
            ->expected(1)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll));
  group(add_size(app, "--max-body", o.max_body, "Bytes that a request's body may have [4M]"));
  group(app.add_option("--shutdown-timeout", o.shutdown_timeout,
                       "Seconds that answers may take to end after Ctrl-C or SIGTERM")
            ->check(between(0, 86400))
            ->capture_default_str()
            ->type_name("S"));
  group(app.add_option("--sse-ping", o.sse_ping,
                       "Send a comment into streams that are silent for so many seconds; 0: never")
            ->check(between(0, 86400))
            ->capture_default_str()
            ->type_name("S"));
  group(app.add_flag("--metrics", o.service.metrics, "Answer GET /metrics, for Prometheus"));
  group(app.add_option("--log-format", o.log_format, "Lines of the log: text or json")
            ->check(one_of({"text", "json"}))
            ->capture_default_str()
            ->type_name("FORMAT"));
}

void add_engine(CLI::App& app, ServeOptions& o) {
  serve::EngineLimits& limits = o.service.engine;
  add_optional(app, "--context", o.memory.context,
               "Tokens that a text may have, prompt and answer (default: the model's limit, or "
               "what --kv-memory holds for all slots)",
               "N")
      ->check(between(1, 0x1p31));
  add_size(app, "--kv-memory", o.kv_memory,
           "Memory for keys and values, of answers that run and of kept beginnings of prompts "
           "(default: at most half of what is available)");
  app.add_option("--slots", limits.slots, "Sequences that are made at the same time")
      ->check(between(1, 1024))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--queue", limits.queue, "Requests that may wait; the next one is refused (429)")
      ->check(between(0, 1e6))
      ->capture_default_str()
      ->type_name("N");
  app.add_option(
         "--prefill-piece", limits.piece,
         "Tokens of a prompt that are read between two tokens of the other answers; part of "
         "what decides the bits of an answer")
      ->check(between(1, 1024))
      ->capture_default_str()
      ->type_name("N");
  app.add_flag("--no-cache-prompt", o.no_cache_prompt,
               "Read every prompt anew, even if one before it began the same");
  add_optional(app, "--max-tokens", o.service.max_tokens,
               "Tokens of a chat's answer where the request names no limit (default: what is left "
               "of the context)",
               "N")
      ->check(between(1, 0x1p31));
}

void add_sampling(CLI::App& app, serve::GivenSampling& s) {
  constexpr const char* kGroup = "Sampling, where a request says nothing";
  const auto group = [](CLI::Option* option) { option->group(kGroup); };
  group(
      add_optional(app, "--temperature", s.temperature,
                   "0: always the likeliest token (default: the model's generation_config.json's, "
                   "else 1; so are the others)",
                   "T"));
  group(add_optional(app, "--top-k", s.top_k, "Choose among the K likeliest tokens; 0: all", "K"));
  group(add_optional(app, "--top-p", s.top_p,
                     "Choose among the likeliest tokens that make up this probability; 1: all",
                     "P"));
  group(add_optional(app, "--min-p", s.min_p,
                     "Leave out tokens below this share of the likeliest one's probability", "P"));
  group(add_optional(app, "--repetition-penalty", s.repetition_penalty,
                     "Divide the logits of tokens seen before; 1: off", "X"));
}

void add_comparison(CLI::App& app, ServeOptions& o) {
  constexpr const char* kGroup = "Comparing versions";
  app.add_option("--base", o.service.base,
                 "The version that the others are compared with (default: the first)")
      ->type_name("NAME")
      ->group(kGroup);
  app.add_option("--report", o.report,
                 "Page that qwb-report made of these versions: answered at /report, and the page "
                 "has a link to it")
      ->type_name("FILE")
      ->group(kGroup);
  app.add_flag_callback(
         "--no-page", [&o] { o.service.page = false; }, "Do not answer GET / with the page")
      ->group(kGroup);
  CLI::Option* const none =
      app.add_flag("--no-energy", o.no_energy, "Do not measure the joules of answers");
  none->group(kGroup);
  add_meter_flags(app, o.meter);
  app.add_option("--idle", o.idle,
                 "Seconds of idle power measured at the start, the models loaded, where there is a "
                 "counter; 0: none, and no net joules")
      ->check(between(0, 86400))
      ->type_name("SECONDS")
      ->capture_default_str();
  for (const char* flag : {"--watts", "--meter", "--idle"})
    app.get_option(flag)->excludes(none)->group(kGroup);
}

}  // namespace

void add_serve_options(CLI::App& app, ServeOptions& o) {
  app.add_option("MODEL", o.models,
                 "Models or artifacts, each as NAME=MODEL or under its own name (default: the "
                 "newest artifact in the cache, else $QWB_MODEL, else the demo llama)")
      ->type_name("");
  add_adapter_flag(app, o.adapters,
                   "A LoRA adapter that runs beside the model called NAME, or beside all: a folder "
                   "as PEFT writes it, or a GGUF file; :SCALE multiplies what it adds; may be "
                   "repeated",
                   "[NAME=]DIR[:SCALE]");
  add_engine(app, o);
  add_int8_flags(app, o.int8);
  add_comparison(app, o);
  add_network(app, o);
  add_sampling(app, o.sampling);
}

namespace {

// The keys of the file and of the environment.
std::vector<serve::KeyHash> read_keys(const ServeOptions& o) {
  std::vector<serve::KeyHash> keys;
  const auto add = [&](const std::string& key) { keys.push_back(serve::hash_of_key(key)); };
  if (const char* key = std::getenv("QWB_API_KEY"); key != nullptr && *key != '\0') add(key);
  if (o.key_file.empty()) return keys;
  const size_t before = keys.size();
  std::string line;
  for (const char c : read_text_file(o.key_file) + "\n") {
    if (c != '\n' && c != '\r') {
      line += c;
      continue;
    }
    if (!line.empty()) add(line);
    line.clear();
  }
  if (keys.size() == before) throw Error(ErrorKind::usage, "there is no key in it", o.key_file);
  return keys;
}

}  // namespace

void check_network(ServeOptions& o) {
  o.server.gate.keys = read_keys(o);
  o.server.gate.body_limit = static_cast<uint64_t>(o.max_body);
  const auto milliseconds = [](double seconds) {
    return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  };
  o.server.shutdown_time = milliseconds(o.shutdown_timeout);
  o.server.ping_time = milliseconds(o.sse_ping);
  for (std::string& host : o.server.gate.hosts) {
    const auto name = serve::host_name(host);
    if (!name) throw Error(ErrorKind::usage, "--allow-host " + host + " is no name of a host");
    host = *name;
  }
  if (o.server.gate.keys.empty() && !o.no_auth && !serve::is_loopback(o.server.address)) {
    throw Error(ErrorKind::usage, "--host " + o.server.address + " lets others ask", {},
                "give --api-key-file FILE or $QWB_API_KEY, or allow everybody with --no-auth");
  }
}

void read_report(ServeOptions& o) {
  if (o.report.empty()) return;
  o.service.report = read_text_file(o.report);
  constexpr std::string_view kBegin = "<!doctype html>";
  const std::string begin = o.service.report.substr(0, kBegin.size());
  const bool html = std::equal(begin.begin(), begin.end(), kBegin.begin(), kBegin.end(),
                               [](unsigned char a, char b) { return std::tolower(a) == b; });
  if (!html) throw Error(ErrorKind::usage, "--report takes a page of qwb-report", o.report);
}

}  // namespace qwb
