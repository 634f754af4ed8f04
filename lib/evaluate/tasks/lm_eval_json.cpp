// The fields of lm-eval's results file (lm_eval/result_schema.py) that have a meaning here; what
// would name lm-eval's own surroundings (git_hash, versions of torch and transformers) is left out.
#include <chrono>
#include <cmath>

#include "lib/evaluate/estimate_json.h"
#include "lib/evaluate/tasks/task_score.h"

namespace qwb {
namespace {

Json na_or(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? Json(*value) : Json("N/A");
}

void add_metric(Json& results, Json& better, const std::string& name, const Estimate& estimate,
                bool higher) {
  results[name + ",none"] = estimate.value;
  results[name + "_stderr,none"] = na_or(estimate.standard_error);
  better[name] = higher;
}

Json token_json(const Tokenizer& tokenizer, std::optional<int32_t> id) {
  if (!id) return Json::array({nullptr, "None"});
  return Json::array({tokenizer.token_of(*id), std::to_string(*id)});
}

}  // namespace

Json lm_eval_json(const std::vector<TaskResult>& results, const std::string& model,
                  const Tokenizer& tokenizer, const ModelConfig& config) {
  Json json;
  for (const char* key : {"results", "group_subtasks", "configs", "versions", "n-shot",
                          "higher_is_better", "n-samples", "task_hashes"})
    json[key] = Json::object();
  for (const TaskResult& r : results) {
    Json metrics = {{"alias", r.name}, {"name", r.name}, {"sample_len", r.items}},
         better = Json::object();
    if (r.perplexity) add_metric(metrics, better, "perplexity", *r.perplexity, false);
    add_metric(metrics, better, "acc", r.accuracy, true);
    if (r.normalized) add_metric(metrics, better, "acc_norm", *r.normalized, true);
    json["results"][r.name] = metrics;
    json["group_subtasks"][r.name] = Json::array();
    json["configs"][r.name] = {{"task", r.name},
                               {"dataset_path", "json"},
                               {"dataset_kwargs", {{"data_files", r.file}}},
                               {"output_type", r.perplexity ? "loglikelihood" : "multiple_choice"},
                               {"target_delimiter", " "},
                               {"fewshot_delimiter", "\n\n"},
                               {"num_fewshot", r.shots},
                               {"metadata", {{"version", r.version}}}};
    json["versions"][r.name] = r.version;
    json["n-shot"][r.name] = r.shots;
    json["higher_is_better"][r.name] = better;
    json["n-samples"][r.name] = {{"original", r.original}, {"effective", r.items}};
    json["task_hashes"][r.name] = r.hash;
  }
  json["config"] = {{"model", "qwb"},
                    {"model_args", "pretrained=" + model},
                    {"batch_size", "1"},
                    {"random_seed", 0},
                    {"numpy_seed", 1234},
                    {"torch_seed", 1234},
                    {"fewshot_seed", results.empty() ? 1234 : results.front().seed}};
  json["date"] =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  json["tokenizer_bos_token"] = token_json(tokenizer, tokenizer.bos_id());
  json["tokenizer_eos_token"] = token_json(tokenizer, tokenizer.eos_id());
  json["max_length"] = config.max_positions;
  json["model_source"] = "qwb";
  json["model_name"] = model;
  json["system_instruction"] = nullptr;
  json["system_instruction_sha"] = nullptr;
  json["chat_template"] = nullptr;
  json["chat_template_sha"] = nullptr;
  return json;
}

}  // namespace qwb
