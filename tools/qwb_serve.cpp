// qwb-serve: models and artifacts behind OpenAI's HTTP API.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "lib/adapt/use.h"
#include "lib/base/error.h"
#include "lib/base/memory.h"
#include "lib/base/text_file.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/sources.h"
#include "lib/serve/api/memory_plan.h"
#include "lib/serve/api/service.h"
#include "lib/serve/http/log_line.h"
#include "lib/serve/http/server.h"
#include "tools/common/command_line.h"
#include "tools/common/int8_flags.h"
#include "tools/common/number_checks.h"
#include "tools/common/tool.h"

namespace qwb {
namespace {

using serve::ServedModel;

constexpr const char* kExamples =
    "Examples:\n"
    "  qwb-serve                                  the newest artifact in the cache, on "
    "http://127.0.0.1:8080\n"
    "  qwb-serve full=MODEL nf4=ARTIFACT --port 9000\n"
    "  qwb-serve MODEL --host 0.0.0.0 --api-key-file keys.txt --allow-host gpu.example.org\n"
    "  curl -s localhost:8080/v1/completions -H 'Content-Type: application/json' \\\n"
    "    -d '{\"prompt\": \"Once upon a time\", \"max_tokens\": 12}'\n"
    "The same request gives the same answer, whatever else runs beside it.";

struct Options {
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
};

template <class T>
CLI::Option* add_optional(CLI::App& app, const std::string& name, std::optional<T>& value,
                          const std::string& help, const std::string& type) {
  return app
      .add_option_function<T>(
          name, [&value](const T& given) { value = given; }, help)
      ->type_name(type);
}

void add_network(CLI::App& app, Options& o) {
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

void add_engine(CLI::App& app, Options& o) {
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

void add_options(CLI::App& app, Options& o) {
  app.add_option("MODEL", o.models,
                 "Models or artifacts, each as NAME=MODEL or under its own name (default: the "
                 "newest artifact in the cache, else $QWB_MODEL, else the demo llama)")
      ->type_name("");
  app.add_option(
         "--adapter", o.adapters,
         "A LoRA adapter that runs beside the model called NAME, or beside all: a folder as "
         "PEFT writes it, or a GGUF file; :SCALE multiplies what it adds; may be repeated")
      ->type_name("[NAME=]DIR[:SCALE]")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_engine(app, o);
  add_int8_flags(app, o.int8);
  add_network(app, o);
  add_sampling(app, o.sampling);
}

// The keys of the file and of the environment.
std::vector<serve::KeyHash> read_keys(const Options& o) {
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

void check_network(Options& o) {
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

// "NAME=MODEL"; a name alone is that of the folder, or of the file without its ending.
struct NamedModel {
  std::string name, place;
};

NamedModel named_model(const std::string& text) {
  const size_t equals = text.find('=');
  NamedModel model{equals == std::string::npos ? "" : text.substr(0, equals),
                   equals == std::string::npos ? text : text.substr(equals + 1)};
  if (model.place.empty() || equals == 0)
    throw Error(ErrorKind::usage, "'" + text + "' is no NAME=MODEL");
  return model;
}

std::string own_name(const Path& place) {
  const Path path = std::filesystem::weakly_canonical(place);
  return std::filesystem::is_directory(path) ? path.filename().string() : path.stem().string();
}

// Those of the model that is called so.
std::vector<AdapterUse> adapters_of(const std::string& name, const Options& o) {
  std::vector<AdapterUse> uses;
  for (const std::string& text : o.adapters) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos) {
      uses.push_back(parse_adapter_use(text));
    } else if (text.substr(0, equals) == name) {
      uses.push_back(parse_adapter_use(text.substr(equals + 1)));
    }
  }
  return uses;
}

ServedModel open_served(const NamedModel& wanted, const Options& o, Tool& tool) {
  const Context& context = tool.context();
  const ChosenArtifact chosen = wanted.place.empty()
                                    ? choose_artifact(context)
                                    : ChosenArtifact{model_folder(wanted.place, context), nullptr};
  require_model_folder(chosen.folder);
  require_undamaged_if_summed(chosen.folder, context.stop);
  const Int8Forward forward = chosen_int8_forward(o.int8);
  std::string name = wanted.name;
  if (name.empty())
    name = std::filesystem::exists(wanted.place) || wanted.place.empty() ? own_name(chosen.folder)
                                                                         : wanted.place;
  LoadedModel loaded = load_model(chosen.folder,
                                  {.executor = make_executor(forward, context.threads),
                                   .hold = chosen.lease,
                                   .attach = adapters_to_attach(adapters_of(name, o))},
                                  context);
  require_int8_modules(*loaded.model, forward, chosen.folder.string());
  return serve::served_model(std::move(name), std::move(loaded), o.sampling);
}

std::vector<ServedModel> open_models(const Options& o, Tool& tool) {
  std::vector<ServedModel> models;
  for (const std::string& text : o.models.empty() ? std::vector<std::string>{""} : o.models) {
    const NamedModel wanted = text.empty() ? NamedModel() : named_model(text);
    models.push_back(open_served(wanted, o, tool));
    const std::string& name = models.back().name;
    for (size_t i = 0; i + 1 < models.size(); ++i) {
      if (models[i].name == name)
        throw Error(ErrorKind::usage, "two models are called " + name, {}, "give NAME=MODEL");
    }
  }
  for (const std::string& text : o.adapters) {
    const std::string name = text.substr(0, text.find('='));
    const bool known = name.size() == text.size() ||
                       std::ranges::any_of(models, [&](const auto& m) { return m.name == name; });
    if (!known) throw Error(ErrorKind::usage, "--adapter " + text + ": no model is called " + name);
  }
  return models;
}

// Decides on memory, and tells it.
void plan(std::vector<ServedModel>& models, Options& o) {
  std::vector<serve::PlannedModel> planned;
  o.memory.slots = o.service.engine.slots;
  if (o.kv_memory > 0) o.memory.kv_bytes = o.kv_memory;
  o.memory.available = available_memory();
  for (const ServedModel& model : models) {
    planned.push_back({model.name, serve::context_limit(*model.loaded.model),
                       kv_cache_bytes(model.loaded.model->config(), 1)});
    o.memory.available -= model.loaded.model->weight_bytes().mapped;
  }
  const serve::MemoryPlan plan = plan_memory(planned, o.memory);
  o.service.engine.kv_bytes = plan.kv_bytes;
  o.service.engine.keep_prefixes = !o.no_cache_prompt;
  for (size_t i = 0; i < models.size(); ++i) models[i].context = plan.contexts[i];
}

int64_t weights_of(const ServedModel& model) {
  const WeightBytes& bytes = model.loaded.model->weight_bytes();
  return bytes.mapped + bytes.copied + bytes.vectors;
}

int tell_plan(const std::vector<ServedModel>& models, const Options& o, Tool& tool) {
  Json json = {{"schema", 1},
               {"kv_bytes", o.service.engine.kv_bytes},
               {"slots", o.service.engine.slots},
               {"models", Json::array()}};
  Table table({{"model"},
               {"weights", Table::Align::right},
               {"context", Table::Align::right},
               {"keys and values of a full text", Table::Align::right}});
  int64_t weights = 0;
  for (const ServedModel& model : models) {
    const int64_t full = kv_cache_bytes(model.loaded.model->config(), model.context);
    weights += weights_of(model);
    json["models"].push_back({{"name", model.name},
                              {"weight_bytes", weights_of(model)},
                              {"context", model.context},
                              {"kv_bytes_of_context", full}});
    table.add_row({model.name, human_bytes(weights_of(model)), std::to_string(model.context),
                   human_bytes(full)});
  }
  json["memory_bytes"] = weights + o.service.engine.kv_bytes;
  if (tool.json()) {
    tool.print(json.dump() + "\n");
    return 0;
  }
  tool.print_table(std::move(table));
  tool.print(fmt::format("{} of weights and at most {} of keys and values, for {} texts at once\n",
                         human_bytes(weights), human_bytes(o.service.engine.kv_bytes),
                         o.service.engine.slots));
  return 0;
}

void tell_ready(const std::vector<ServedModel>& models, const serve::Server& server,
                const Options& o, Tool& tool) {
  const bool six = o.server.address.find(':') != std::string::npos;
  const std::string url = fmt::format(
      "http://{}:{}", six ? "[" + o.server.address + "]" : o.server.address, server.port());
  Json names = Json::array();
  std::string list;
  for (const ServedModel& model : models) {
    names.push_back(model.name);
    list += fmt::format("{}{} (context {})", list.empty() ? "" : ", ", model.name, model.context);
  }
  if (tool.json())
    tool.print(
        Json({{"schema", 1}, {"url", url}, {"port", server.port()}, {"models", names}}).dump() +
        "\n");
  tool.note(fmt::format("ready on {}: {}; {} at once, {} of keys and values", url, list,
                        o.service.engine.slots, human_bytes(o.service.engine.kv_bytes)));
}

int serve_models(Options& o, Tool& tool) {
  check_network(o);
  std::vector<ServedModel> models = open_models(o, tool);
  plan(models, o);
  if (tool.dry_run()) return tell_plan(models, o, tool);
  serve::Service service(std::move(models), o.service);
  serve::Server server(service, o.server, [&](const serve::RequestLog& log) {
    if (log.quiet || tool.quiet()) return;
    if (o.log_format == "text") return tool.note(serve::log_line(log, false));
    fmt::print(stderr, "{}\n", serve::log_line(log, true));  // nothing before the JSON
  });
  tell_ready(service.models(), server, o, tool);
  if (server.run(tool.context().stop)) return 0;
  tool.log_error("some answers took longer than --shutdown-timeout and were cut off");
  return static_cast<int>(ErrorKind::interrupted);
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {.name = "qwb-serve",
                              .summary = "Serves models through OpenAI's HTTP API.",
                              .examples = qwb::kExamples,
                              .has_dry_run = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::Options>();
    qwb::add_options(app, *options);
    return [options, &tool] { return qwb::serve_models(*options, tool); };
  });
}
