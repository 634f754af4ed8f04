// POST /qwb/v1/compare and /qwb/v1/compare/stop, GET /qwb/v1/versions.
#include <utility>

#include "lib/evaluate/estimate_json.h"
#include "lib/jobs/kept_quality.h"
#include "lib/serve/api/answer_json.h"
#include "lib/serve/api/answer_meter.h"
#include "lib/serve/api/api_error.h"
#include "lib/serve/api/fields.h"
#include "lib/serve/api/request_json.h"
#include "lib/serve/api/routes.h"
#include "lib/serve/compare/comparison.h"
#include "lib/serve/compare/comparisons.h"

namespace qwb::serve {
namespace {

Json version_json(const ServedModel& model, const ServedModel& base, const ResultCache* results) {
  const Model& weights = *model.loaded.model;
  const WeightBytes& held = weights.weight_bytes();
  Json json = {{"name", model.name},
               {"method", model.method},
               {"bits", number_json(model.bits)},
               {"bpw", number_json(model.bpw)},
               {"bytes", model.bytes},
               {"parameters", held.parameters},
               {"memory_bytes", held.mapped + held.copied + held.vectors},
               {"kv_bytes_per_token", kv_cache_bytes(weights.config(), 1)},
               {"format", model.loaded.open.format},
               {"executor", weights.executor().identity()},
               {"context", model.context},
               {"chat", model.chat.has_value()},
               {"settings", settings_json(model.defaults)},
               {"hash", text_json(model.kept.hash)},
               {"adapters", model.kept.adapters},
               {"tokenizer", model.loaded.tokenizer->content_hash()},
               {"quality", nullptr}};
  if (results != nullptr) json["quality"] = kept_quality(*results, model.kept, base.kept);
  return json;
}

}  // namespace

void handle_versions(Service& service, const std::shared_ptr<Exchange>& exchange) {
  const ServiceSettings& settings = service.settings();
  Json versions = Json::array();
  for (const ServedModel& model : service.models())
    versions.push_back(version_json(model, service.base(), settings.results.get()));
  const Json json = {{"schema", 1},
                     {"base", service.base().name},
                     {"versions", std::move(versions)},
                     {"slots", settings.engine.slots},
                     {"report", !settings.report.empty()},
                     {"energy", settings.meter ? settings.meter->about() : Json(nullptr)}};
  exchange->send({.body = json_line(json) + "\n"});
}

void handle_compare(Service& service, const std::shared_ptr<Exchange>& exchange) {
  const Json body = parse_request(exchange->request().body);
  CompareRequest request = read_compare_request(body, service);
  const std::string id = service.head("compare-", service.base()).id;
  std::make_shared<Comparison>(service, exchange, std::move(request), id)->start();
}

void handle_compare_stop(Service& service, const std::shared_ptr<Exchange>& exchange) {
  const Json body = parse_request(exchange->request().body);
  const Fields fields(body);
  const auto id = fields.text("id");
  if (!id) fields.refuse("id", "is missing");
  const auto column = fields.integer("column", 0, INT32_MAX);
  const auto comparison = service.comparisons().find(*id, exchange->request().owner);
  if (comparison == nullptr) throw ApiError(404, "no such comparison runs", "id", "not_running");
  if (!comparison->stop(column ? std::optional<size_t>(*column) : std::nullopt))
    fields.refuse("column", "there is no such column");
  exchange->send({.body = json_line({{"stopped", true}}) + "\n"});
}

}  // namespace qwb::serve
