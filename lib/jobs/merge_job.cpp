#include "lib/jobs/merge_job.h"

#include <algorithm>

#include "formats/loaded_model.h"
#include "formats/model_modules.h"
#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/evaluate/protocols.h"
#include "lib/evaluate/subject.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/convert_job.h"
#include "lib/jobs/evaluate_job.h"
#include "lib/jobs/sources.h"
#include "lib/model/architecture.h"

namespace qwb {
namespace {

// config.json's meaning, and the names.
struct BaseFacts {
  ModelConfig config;
  ModelSpec spec;

  explicit BaseFacts(const OpenModel& open) {
    const std::string where = open.config_name();
    const Architecture& architecture =
        find_architecture(json_string(open.config, "model_type", where), where);
    config = architecture.parse(open.config, where);
    spec = architecture.spec(config, *open.source);
  }
};

bool is_quantized(const OpenModel& open) {
  return !open.source->quantized_modules().empty();
}

// The unquantized model that this one was made from.
OpenModel source_of(const OpenModel& base, const Context& context) {
  const std::string where = base.folder.string();
  const std::string advice =
      "name it by --onto MODEL, or merge into its own values by --onto "
      "dequantized";
  const Json none = Json::object();
  const Json& source = json_has(base.manifest, "source") && base.manifest.at("source").is_object()
                           ? base.manifest.at("source")
                           : none;
  const std::string path = json_string(source, "path", where, "");
  const std::string hash = json_string(source, "hash", where, "");
  for (const Path& candidate : {Path(path), base.folder / path}) {
    if (path.empty() || !detect_model(candidate)) continue;
    OpenModel open = open_model(candidate, context);
    if (!hash.empty() && open.content_hash({}, context) != hash)
      throw Error(ErrorKind::verification, "it has changed since " + where + " was made from it",
                  candidate.string(), advice);
    return open;
  }
  throw Error(ErrorKind::not_found,
              path.empty() ? "nothing tells which model this one was made from"
                           : "the model that it was made from is not at " + path,
              where, advice);
}

OpenModel onto_of(const MergeRequest& request, const OpenModel& base, const Context& context) {
  if (request.onto == "dequantized") return base;
  if (request.onto == "source") return is_quantized(base) ? source_of(base, context) : base;
  const Path folder = model_folder(request.onto, context);
  require_model_folder(folder);
  return open_model(folder, context);
}

}  // namespace

MergeJob::MergeJob(MergeRequest request, const Context& context)
    : request_(std::move(request)),
      base_(open_model(request_.model, context)),
      onto_(onto_of(request_, base_, context)) {
  std::error_code ignored;
  same_ = std::filesystem::equivalent(base_.folder, onto_.folder, ignored);
  const BaseFacts facts(onto_);
  for (const AdapterUse& use : request_.adapters)
    adapters_.push_back(
        {read_adapter(use.place, onto_.config, facts.config, facts.spec), use.weight});
}

std::vector<AdaptableModule> MergeJob::base_modules() const {
  const BaseFacts facts(base_);
  std::vector<AdaptableModule> modules = adaptable_modules(facts.config, facts.spec);
  // A tied output embedding has no weight of its own.
  if (facts.spec.output_embedding == facts.spec.embedding)
    std::erase_if(modules, [](const AdaptableModule& module) { return module.head; });
  return modules;
}

OpenModel MergeJob::merged(MergedSource::Form form) const {
  return merged_model(onto_, adapters_, form);
}

DType MergeJob::stored_type() const {
  return request_.dtype.value_or(model_dtype(onto_));
}

std::vector<ModuleMerge> MergeJob::measure(bool handed_on, const Context& context) const {
  const OpenModel open = merged(MergedSource::Form::modules);
  const auto& source = dynamic_cast<const MergedSource&>(*open.source);
  return measure_merge(source, handed_on ? DType::f32 : stored_type(),
                       same_ ? nullptr : base_.source.get(), context);
}

namespace {

ConvertJob conversion_of(OpenModel merged, const MergeRequest& request, const Context& context) {
  return {std::move(merged),
          {.format = "huggingface",
           .dtype = request.dtype,
           .max_shard_bytes = request.max_shard_bytes,
           .replace = request.replace},
          context};
}

}  // namespace

int64_t MergeJob::tensor_bytes(const Context& context) const {
  return conversion_of(merged(MergedSource::Form::modules), request_, context.silent())
      .tensor_bytes();
}

void MergeJob::write(const Path& place, const Context& context) const {
  conversion_of(merged(MergedSource::Form::modules), request_, context).write(place);
}

OpenModel MergeJob::handed_on() const {
  return merged(MergedSource::Form::tensors);
}

Json MergeJob::made_of() const {
  Json adapters = Json::array();
  for (size_t i = 0; i < adapters_.size(); ++i)
    adapters.push_back({{"name", request_.adapters[i].place.string()},
                        {"hash", content_hash(adapters_[i].adapter)},
                        {"weight", adapters_[i].weight}});
  return {{"onto", onto_.folder.string()}, {"adapters", adapters}};
}

DivergenceMeasurement MergeJob::divergence(const Path& made, int64_t windows,
                                           const Context& context) const {
  const LoadedModel reference =
      load_model(base_, {.attach = adapters_to_attach(request_.adapters)}, context.silent());
  const LoadedModel other = load_model(made, {}, context.silent());
  const EvaluationText text = evaluation_text("demo", context);
  ProtocolOptions options{.max_windows = windows};
  const TokenPlan plan = make_plan(options, other.model->config(), other.tokenizer.value(), text);
  options.context = plan.context;
  const TokenPlan base_plan =
      make_plan(options, reference.model->config(), reference.tokenizer.value(), text);
  return measure_divergence(*reference.model, base_plan, *other.model, plan, context);
}

Json merge_json(const std::vector<ModuleMerge>& modules) {
  Json all = Json::array();
  for (const ModuleMerge& m : modules) {
    Json entry = {{"name", m.module},
                  {"weights", m.weights},
                  {"kept", m.kept},
                  {"delta", m.delta},
                  {"delta_share", m.share}};
    entry["base_error"] = m.base_error ? Json(*m.base_error) : Json(nullptr);
    all.push_back(std::move(entry));
  }
  return all;
}

}  // namespace qwb
