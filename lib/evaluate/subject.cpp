#include "lib/evaluate/subject.h"

#include <map>
#include <system_error>

#include "formats/qwb/artifact.h"
#include "lib/base/error.h"

namespace qwb {
namespace {

struct Count {
  int64_t weights = 0;
  int64_t bytes = 0;
  DType largest_type = DType::f32;  // of most weights
  std::optional<double> bits;       // mean of the quantized modules, if there are any
};

Count count_tensors(const TensorSource& source) {
  Count count;
  int64_t quantized_weights = 0, quantized_bits = 0;
  std::map<DType, int64_t> types;
  for (const std::string& name : source.names()) {
    const auto view = source.find(name);
    if (!view) continue;
    count.weights += view->count();
    count.bytes += static_cast<int64_t>(view->bytes.size());
    types[view->dtype] += view->count();
  }
  for (const std::string& name : source.quantized_modules()) {
    const auto weight = source.quantized(name);
    if (!weight) continue;
    count.weights += weight->out * weight->in;
    count.bytes += weight->bytes();
    quantized_weights += weight->out * weight->in;
    quantized_bits += weight->out * weight->in * weight->code_bits();
  }
  if (quantized_weights > 0)
    count.bits = static_cast<double>(quantized_bits) / static_cast<double>(quantized_weights);
  int64_t most = 0;
  for (const auto& [type, weights] : types) {
    if (weights > most) count.largest_type = type;
    most = std::max(most, weights);
  }
  return count;
}

// Mean bits of a code over the weights of all modules.
std::optional<double> mean_bits(const Json& modules, const std::string& where) {
  double weighted = 0;
  double weights = 0;
  for (const Json& module : modules) {
    const double size = json_number(module, "out", where) * json_number(module, "in", where);
    weighted += size * json_number(module, "bits", where);
    weights += size;
  }
  return weights > 0 ? std::optional(weighted / weights) : std::nullopt;
}

void describe_artifact(Subject& subject) {
  const Json& manifest = subject.open.manifest;
  const std::string where = (subject.open.folder / "qwb.json").string();
  subject.method = artifact_method(manifest);
  if (json_has(manifest, "modules")) subject.bits = mean_bits(manifest.at("modules"), where);
  if (json_has(manifest, "totals")) {
    const Json& totals = manifest.at("totals");
    if (json_has(totals, "bpw")) subject.bpw = json_number(totals, "bpw", where);
    if (json_has(totals, "peak_memory"))
      subject.quantize_peak = json_int(totals, "peak_memory", where);
    subject.tensor_bytes = json_int(totals, "bytes", where, subject.open.weight_bytes);
  }
  if (json_has(manifest, "source") && manifest.at("source").is_object()) {
    subject.source = json_string(manifest.at("source"), "path", where, "");
    subject.source_hash = json_string(manifest.at("source"), "hash", where, "");
  }
}

void describe_checkpoint(Subject& subject) {
  const Count count = count_tensors(*subject.open.source);
  subject.method = count.bits ? subject.open.format : "none";
  subject.tensor_bytes = count.bytes;
  if (count.weights == 0) return;
  subject.bits = count.bits.value_or(static_cast<double>(8 * dtype_size(count.largest_type)));
  subject.bpw = 8.0 * static_cast<double>(count.bytes) / static_cast<double>(count.weights);
}

}  // namespace

Subject open_subject(const Path& folder, LoadOptions options, const Context& context) {
  return describe_subject(load_model(folder, std::move(options), context));
}

Subject open_subject(const Path& folder, bool needs_tokenizer, const Context& context,
                     std::shared_ptr<const Executor> executor) {
  return open_subject(folder, {.executor = std::move(executor), .tokenizer = needs_tokenizer},
                      context);
}

Json additions_key(const Json& additions) {
  Json key = Json::array();
  for (const Json& addition : additions)
    key.push_back({{"hash", addition.at("hash")}, {"scale", addition.at("scale")}});
  return key;
}

Subject describe_subject(LoadedModel loaded) {
  Subject subject;
  static_cast<LoadedModel&>(subject) = std::move(loaded);
  subject.open.manifest.is_object() ? describe_artifact(subject) : describe_checkpoint(subject);
  return subject;
}

std::optional<Path> baseline_folder(const Subject& subject) {
  if (subject.source.empty()) {
    const bool itself = subject.method == "none" && !subject.additions.is_null();
    return itself ? std::optional(subject.open.folder) : std::nullopt;
  }
  for (const Path& candidate : {Path(subject.source), subject.open.folder / subject.source}) {
    if (detect_model(candidate)) return candidate;
  }
  return std::nullopt;
}

}  // namespace qwb
