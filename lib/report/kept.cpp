#include "lib/report/kept.h"

#include <exception>
#include <map>
#include <set>

#include "lib/evaluate/divergence.h"
#include "lib/evaluate/perplexity.h"

namespace qwb::report {
namespace {

std::string text_field(const Json& key, const char* name) {
  return json_has(key, name) && key.at(name).is_string() ? key.at(name).get<std::string>() : "";
}

Json forward_field(const Json& key, const char* name) {
  return json_has(key, name) ? key.at(name) : Json(nullptr);
}

// The unquantized model's perplexity under the same plan; null without.
const Json* base_result(const std::vector<KeptResult>& kept, const std::string& source_hash,
                        const Json& plan) {
  for (const KeptResult& k : kept) {
    if (!source_hash.empty() && text_field(k.key, "kind") == "perplexity" &&
        text_field(k.key, "model") == source_hash && json_has(k.key, "plan") &&
        k.key.at("plan") == plan)
      return &k.result;
  }
  return nullptr;
}

// Fills in the fields of one kept result; fields that are there already are newer.
void take_quality(const KeptResult& k, const Json* base, QualityRecord& record) {
  if (text_field(k.key, "kind") == "divergence") {
    if (record.divergence) return;
    record.divergence = divergence_from_json(k.result.at("divergence"));
    record.divergence->cached = true;
    record.base_perplexity = perplexity_from_json(k.result.at("base"));
    record.perplexity = perplexity_from_json(k.result.at("other"));
  } else {
    if (record.perplexity) return;
    record.perplexity = perplexity_from_json(k.result);
    if (base != nullptr) record.base_perplexity = perplexity_from_json(*base);
  }
  record.perplexity->cached = true;
  if (record.base_perplexity)
    record.ratio = perplexity_ratio(*record.perplexity, *record.base_perplexity);
}

class Collector {
 public:
  Collector(const EvaluationRecord& model, std::string hash, std::string source_hash,
            const std::vector<KeptResult>& kept)
      : model_(model), hash_(std::move(hash)), source_hash_(std::move(source_hash)), kept_(kept) {}

  std::vector<Json> all() {
    for (const KeptResult& k : kept_) {
      try {
        take(k);
      } catch (const std::exception&) {
        continue;  // of another version, or damaged
      }
    }
    std::vector<Json> records;
    for (const auto& [name, record] : qualities_) records.push_back(record_json(record));
    records.insert(records.end(), costs_.begin(), costs_.end());
    return records;
  }

 private:
  void take(const KeptResult& k) {
    const std::string kind = text_field(k.key, "kind"), what = text_field(k.key, "what");
    if ((kind == "perplexity" || kind == "divergence") && text_field(k.key, "model") == hash_) {
      // Measured against another model than the one that the artifact was made from (a --baseline
      // of then).
      if (kind == "divergence" && !source_hash_.empty() &&
          text_field(k.key, "baseline") != source_hash_)
        return;
      const Json& plan = k.key.at("plan");
      const Json forward = forward_field(k.key, "forward");
      // Read in whole before anything is changed.
      EvaluationRecord record = model_;
      const auto known = qualities_.find(plan.dump() + forward.dump());
      if (known != qualities_.end()) record = known->second;
      record.int8_forward = forward;
      take_quality(k, base_result(kept_, source_hash_, plan), record.quality);
      qualities_[plan.dump() + forward.dump()] = std::move(record);
    } else if ((what == "speed" || what == "energy") && text_field(k.key, "content") == hash_) {
      take_costs(k, what);
    }
  }

  // The newest of each machine and work, whatever version of the program.
  void take_costs(const KeptResult& k, const std::string& what) {
    EvaluationRecord record = model_;
    record.int8_forward = forward_field(k.key, "int8_forward");
    const std::string work =
        what + k.key.at("tests").dump() + k.key.at("machine").dump() + record.int8_forward.dump();
    if (what == "speed") {
      record.speed = k.result.at("speed");
      record.memory = k.result.at("memory");
    } else {
      record.energy = k.result;
    }
    if (seen_.insert(work).second) costs_.push_back(record_json(record));
  }

  const EvaluationRecord& model_;
  std::string hash_, source_hash_;
  const std::vector<KeptResult>& kept_;
  std::map<std::string, EvaluationRecord> qualities_;
  std::vector<Json> costs_;
  std::set<std::string> seen_;
};

}  // namespace

std::vector<Json> kept_records(const EvaluationRecord& model, const std::string& hash,
                               const std::string& source_hash,
                               const std::vector<KeptResult>& kept) {
  return Collector(model, hash, source_hash, kept).all();
}

}  // namespace qwb::report
