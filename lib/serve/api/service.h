// What the server serves: models, the engine that runs them, and what it has counted.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "lib/serve/api/answer_json.h"
#include "lib/serve/api/exchange.h"
#include "lib/serve/api/served_model.h"
#include "lib/serve/engine/engine.h"

namespace qwb {
class ResultCache;
}

namespace qwb::serve {

class AnswerMeter;
class Comparisons;

struct ServiceSettings {
  EngineLimits engine;
  std::optional<int64_t> max_tokens;  // of chats that name none; none: what the context has left
  bool metrics = false;               // GET /metrics answers
  bool page = true;                   // GET / answers
  std::string report = {};            // GET /report answers with this HTML; empty: with 404
  std::string base = {};              // the version that others are compared with; "": the first
  std::shared_ptr<AnswerMeter> meter = {};          // null: joules are not measured
  std::shared_ptr<const ResultCache> results = {};  // of earlier evaluations; null: none are told
};

// Since the start.
struct ServiceCounts {
  int64_t requests = 0, refused = 0, failed = 0;  // answers of status 4xx and 5xx
  int64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;
};

class Service {
 public:
  // At least one model, of different names. Throws usage if the base is none of them.
  Service(std::vector<ServedModel> models, const ServiceSettings& settings);
  ~Service();

  const std::vector<ServedModel>& models() const { return models_; }
  // By name; where there is one model alone, it is the one for requests that name none. Throws
  // ApiError 404 or 400.
  const ServedModel& model(const std::string& name) const;
  // The version that others are compared with.
  const ServedModel& base() const;
  const ServiceSettings& settings() const { return settings_; }
  // Those that run.
  Comparisons& comparisons() { return *comparisons_; }
  Engine& engine() { return engine_; }

  // An id of 24 random letters and digits behind `prefix`, and the time. Both fixed for tests by
  // fix_heads().
  AnswerHead head(const std::string& prefix, const ServedModel& model);
  void fix_heads() { fixed_ = true; }
  uint64_t random_seed();  // of 53 bits, so that every client can read it

  // From now on no request is taken any more.
  void drain() { draining_ = true; }
  bool draining() const { return draining_; }
  void count(const RequestRecord& record, int status);
  ServiceCounts counts() const;

 private:
  const std::vector<ServedModel> models_;
  const ServiceSettings settings_;
  std::atomic<bool> draining_{false};
  bool fixed_ = false;
  mutable std::mutex mutex_;
  ServiceCounts counts_;
  const std::unique_ptr<Comparisons> comparisons_;
  Engine engine_;  // stops before the models go
};

// Letters and digits from the system's generator.
std::string random_name(size_t length);

}  // namespace qwb::serve
