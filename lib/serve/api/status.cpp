// GET /health, /v1/models, /props and /metrics: what the server is and does. No answer names a
// place on this machine.
#include <fmt/format.h>

#include "lib/serve/api/api_error.h"
#include "lib/serve/api/routes.h"

namespace qwb::serve {
namespace {

// openai's client needs the first four; `meta` is llama-server's.
Json model_json(const ServedModel& model) {
  const ModelConfig& config = model.loaded.model->config();
  return {{"id", model.name},
          {"object", "model"},
          {"created", model.created},
          {"owned_by", "qwb"},
          {"meta",
           {{"n_ctx", model.context},
            {"n_ctx_train", config.max_positions},
            {"n_vocab", config.vocab},
            {"n_embd", config.hidden},
            {"n_params", model.loaded.model->weight_bytes().parameters},
            {"size", model.loaded.open.weight_bytes},
            {"format", model.loaded.open.format},
            {"chat", model.chat.has_value()}}}};
}

Json props_json(const ServedModel& model) {
  Json defaults = settings_json(model.defaults);
  defaults.erase("seed");
  return {{"model_alias", model.name},
          {"default_generation_settings", {{"n_ctx", model.context}, {"params", defaults}}},
          {"chat", model.chat.has_value()},
          {"end_tokens", model.end_tokens},
          {"executor", model.loaded.model->executor().identity()}};
}

void send_status(Exchange& exchange, const Json& json, int status = 200) {
  exchange.send({.status = status, .body = json_line(json) + "\n"});
}

struct Metric {
  const char* name;
  const char* kind;
  const char* help;
  double value;
};

std::vector<Metric> metrics_of(Service& service) {
  const EngineLoad load = service.engine().load();
  const ServiceCounts counts = service.counts();
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  return {
      {"requests_total", "counter", "Requests that were answered", number(counts.requests)},
      {"requests_refused_total", "counter", "Of them with a status of 4xx", number(counts.refused)},
      {"requests_failed_total", "counter", "Of them with a status of 5xx", number(counts.failed)},
      {"prompt_tokens_total", "counter", "Tokens of prompts", number(counts.prompt_tokens)},
      {"prompt_tokens_cached_total", "counter", "Of them taken over from earlier prompts",
       number(counts.cached_tokens)},
      {"prompt_seconds_total", "counter", "Time in which prompts were read",
       counts.prefill_seconds},
      {"tokens_predicted_total", "counter", "Tokens that were made",
       number(counts.generated_tokens)},
      {"tokens_predicted_seconds_total", "counter", "Time in which they were made",
       counts.decode_seconds},
      {"decode_steps_total", "counter", "Steps of the engine", number(load.steps)},
      {"decoded_sequences_total", "counter", "Sequences that these steps made longer",
       number(load.decoded)},
      {"requests_deferred", "gauge", "Requests that wait", number(load.waiting)},
      {"sequences_processing", "gauge", "Sequences that run", number(load.running)},
      {"kv_bytes_limit", "gauge", "Memory for keys and values",
       number(service.settings().engine.kv_bytes)},
      {"kv_bytes_running", "gauge", "Of it reserved by sequences that run",
       number(load.kv_running)},
      {"kv_bytes_kept", "gauge", "Of it taken by kept beginnings of prompts", number(load.kv_kept)},
  };
}

}  // namespace

void handle_health(Service& service, const std::shared_ptr<Exchange>& exchange) {
  const bool ready = !service.draining();
  send_status(*exchange, {{"status", ready ? "ok" : "shutting down"}}, ready ? 200 : 503);
}

void handle_models(Service& service, const std::shared_ptr<Exchange>& exchange) {
  Json data = Json::array();
  for (const ServedModel& model : service.models()) data.push_back(model_json(model));
  send_status(*exchange, {{"object", "list"}, {"data", data}});
}

void handle_model(Service& service, const std::shared_ptr<Exchange>& exchange) {
  constexpr std::string_view kBefore = "/v1/models/";
  send_status(*exchange,
              model_json(service.model(exchange->request().path.substr(kBefore.size()))));
}

void handle_props(Service& service, const std::shared_ptr<Exchange>& exchange) {
  Json json = props_json(service.models().front());
  const EngineLimits& limits = service.settings().engine;
  json["total_slots"] = limits.slots;
  json["queue"] = limits.queue;
  json["prefill_piece"] = limits.piece;
  json["kv_bytes"] = limits.kv_bytes;
  json["models"] = Json::array();
  for (const ServedModel& model : service.models()) json["models"].push_back(props_json(model));
  send_status(*exchange, json);
}

void handle_metrics(Service& service, const std::shared_ptr<Exchange>& exchange) {
  if (!service.settings().metrics)
    throw ApiError(404, "metrics are off: start the server with --metrics");
  std::string text;
  for (const Metric& metric : metrics_of(service))
    text += fmt::format("# HELP qwb_{0} {1}\n# TYPE qwb_{0} {2}\nqwb_{0} {3}\n", metric.name,
                        metric.help, metric.kind, metric.value);
  exchange->send({.type = "text/plain; version=0.0.4; charset=utf-8", .body = text});
}

}  // namespace qwb::serve
