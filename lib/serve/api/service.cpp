#include "lib/serve/api/service.h"

#include <algorithm>
#include <ctime>
#include <random>
#include <utility>

#include "lib/jobs/result_cache.h"
#include "lib/serve/api/answer_meter.h"
#include "lib/serve/api/api_error.h"
#include "lib/serve/compare/comparisons.h"

namespace qwb::serve {

std::string random_name(size_t length) {
  constexpr char kLetters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::random_device device;
  std::uniform_int_distribution<size_t> any(0, sizeof(kLetters) - 2);
  std::string name;
  for (size_t i = 0; i < length; ++i) name += kLetters[any(device)];
  return name;
}

Service::Service(std::vector<ServedModel> models, const ServiceSettings& settings)
    : models_(std::move(models)),
      settings_(settings),
      comparisons_(std::make_unique<Comparisons>()),
      engine_(settings.engine) {
  const bool known = settings_.base.empty() ||
                     std::any_of(models_.begin(), models_.end(), [&](const ServedModel& model) {
                       return model.name == settings_.base;
                     });
  if (!known) throw Error(ErrorKind::usage, "--base " + settings_.base + " is none of the models");
}

Service::~Service() = default;

const ServedModel& Service::base() const {
  return settings_.base.empty() ? models_.front() : model(settings_.base);
}

const ServedModel& Service::model(const std::string& name) const {
  if (name.empty()) {
    if (models_.size() == 1) return models_.front();
    throw ApiError(400, "model: is missing; GET /v1/models lists them", "model");
  }
  const auto found = std::find_if(models_.begin(), models_.end(),
                                  [&](const ServedModel& model) { return model.name == name; });
  if (found != models_.end()) return *found;
  throw ApiError(404, "there is no model '" + name.substr(0, 100) + "'; GET /v1/models lists them",
                 "model", "model_not_found");
}

AnswerHead Service::head(const std::string& prefix, const ServedModel& model) {
  if (fixed_) return {prefix + "0", 0, model.name};
  return {prefix + random_name(24), std::time(nullptr), model.name};
}

uint64_t Service::random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) >> 11;
}

void Service::count(const RequestRecord& record, int status) {
  const std::lock_guard lock(mutex_);
  ++counts_.requests;
  if (status >= 500) ++counts_.failed;
  if (status >= 400 && status < 500) ++counts_.refused;
  counts_.prompt_tokens += record.prompt_tokens;
  counts_.cached_tokens += record.cached_tokens;
  counts_.generated_tokens += record.generated_tokens;
  counts_.prefill_seconds += record.prefill_seconds;
  counts_.decode_seconds += record.decode_seconds;
}

ServiceCounts Service::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace qwb::serve
