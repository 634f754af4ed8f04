#include <algorithm>

#include "formats/companions.h"
#include "formats/qwb.h"
#include "lib/base/written_files.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

void check_matches(const NamedLayout& module, const QuantizedTensor& tensor) {
  const WeightLayout& layout = module.layout;
  const std::vector<PartSpec> specs = layout.specs();
  bool same = static_cast<const WeightShape&>(tensor) == layout &&
              tensor.codec() == layout.codec() && tensor.parts.size() == specs.size();
  for (const PartSpec& spec : specs) {
    const auto it = tensor.parts.find(spec.name);
    same = same && it != tensor.parts.end() && it->second.dtype() == spec.dtype &&
           it->second.shape() == spec.shape;
  }
  if (!same)
    throw Error(ErrorKind::usage, "the tensor is not what was declared",
                "module '" + module.name + "'");
}

}  // namespace

ArtifactWriter::ArtifactWriter(const Path& target, const OpenModel& source,
                               std::vector<NamedLayout> modules, int64_t max_shard_bytes,
                               Context context)
    : source_(source), context_(std::move(context)), folder_(target, context_.stop) {
  if (!source.manifest.is_null() || !source.source->quantized_modules().empty()) {
    throw Error(ErrorKind::usage, "is already quantized", source.folder.string(),
                "quantize the model it was made from");
  }
  for (NamedLayout& module : modules) {
    const auto weight = source.source->find(module.name + ".weight");
    const Shape straight = {module.layout.out, module.layout.in};
    const Shape turned = {module.layout.in, module.layout.out};
    if (!weight || (weight->shape != straight && weight->shape != turned)) {
      throw Error(ErrorKind::usage,
                  "no weight " + shape_text(straight) + " of module '" + module.name + "'",
                  source.folder.string());
    }
    if (!module_index_.emplace(module.name, modules_.size()).second) {
      throw Error(ErrorKind::usage, "module '" + module.name + "' is listed twice");
    }
    modules_.push_back({std::move(module), false, {}});
  }
  lay_out(max_shard_bytes);
}

// Decides which tensors there will be, in the order of names, and creates the files.
void ArtifactWriter::lay_out(int64_t max_shard_bytes) {
  std::vector<PartSpec> specs;
  constexpr std::string_view kWeight = ".weight";
  for (const std::string& name : source_.source->names()) {
    const bool is_weight = name.size() > kWeight.size() && name.ends_with(kWeight);
    const auto it = is_weight ? module_index_.find(name.substr(0, name.size() - kWeight.size()))
                              : module_index_.end();
    if (it == module_index_.end()) {
      const TensorView view = *source_.source->find(name);
      specs.push_back({name, view.dtype, view.shape});
      copied_.push_back(name);
      continue;
    }
    const NamedLayout& module = modules_[it->second].module;
    for (const PartSpec& part : module.layout.specs())
      specs.push_back({module.name + "." + part.name, part.dtype, part.shape});
  }
  tensors_ = std::make_unique<ShardedWriter>(folder_.path(), std::move(specs), max_shard_bytes);
}

void ArtifactWriter::put(const std::string& module, const QuantizedTensor& tensor,
                         const Json& result) {
  const auto it = module_index_.find(module);
  if (it == module_index_.end())
    throw Error(ErrorKind::usage, "module '" + module + "' was not declared");
  Stored& stored = modules_[it->second];
  check_matches(stored.module, tensor);
  for (const auto& [name, part] : tensor.parts)
    tensors_->put(module + "." + name, part.view().bytes);
  const auto given = [&](const char* key) {
    return json_has(result, key) ? result.at(key) : Json(nullptr);
  };
  Json record = module_entry(module, tensor);
  record.update({{"weight_error", given("weight_error")},
                 {"output_error", given("output_error")},
                 {"seconds", given("seconds")},
                 {"details", json_has(result, "details") ? result.at("details") : Json::object()}});
  for (const char* key : {"method", "method_version", "settings"}) {
    if (json_has(result, key)) record[key] = result.at(key);
  }
  const std::lock_guard lock(mutex_);
  stored.record = std::move(record);
  stored.done = true;
}

void ArtifactWriter::replace(const std::string& tensor, const TensorView& values) {
  if (std::find(copied_.begin(), copied_.end(), tensor) == copied_.end())
    throw Error(ErrorKind::usage, "there is no tensor '" + tensor + "' to replace");
  const TensorView original = *source_.source->find(tensor);
  if (values.dtype != original.dtype || values.shape != original.shape)
    throw Error(ErrorKind::usage, "'" + tensor + "' would get another type or shape");
  tensors_->put(tensor, values.bytes);
  const std::lock_guard lock(mutex_);
  replaced_.insert(tensor);
}

void ArtifactWriter::copy_rest() {
  for (const std::string& name : copied_) {
    if (!replaced_.contains(name)) tensors_->copy(name, *source_.source, context_);
  }
}

Json ArtifactWriter::assemble(const Json& manifest) const {
  Json json = {{"format_version", kArtifactVersion}};
  for (const char* key : {"qwb_version", "isa", "source", "method", "method_version", "bits",
                          "settings", "calibration"}) {
    json[key] = manifest.contains(key) ? manifest.at(key) : Json(nullptr);
  }
  if (json_has(manifest, "kept") && !manifest.at("kept").empty())
    json["kept"] = manifest.at("kept");
  json["modules"] = Json::array();
  int64_t module_weights = 0;
  int64_t module_bytes = 0;
  for (const Stored& stored : modules_) {
    json["modules"].push_back(stored.record);
    module_weights += stored.module.layout.count();
    module_bytes += stored.module.layout.bytes();
  }
  int64_t weights = 0;
  for (const std::string& name : source_.source->names())
    weights += source_.source->find(name)->count();
  json["totals"] = size_json(weights, tensor_bytes());
  json["totals"]["modules"] = size_json(module_weights, module_bytes);
  json["totals"]["modules"]["count"] = modules_.size();
  for (const char* key : {"seconds", "peak_memory"}) {
    json["totals"][key] = manifest.contains(key) ? manifest.at(key) : Json(nullptr);
  }
  return json;
}

bool ArtifactWriter::finish(const Json& manifest, bool replace) {
  for (const Stored& stored : modules_) {
    if (!stored.done)
      throw Error(ErrorKind::usage, "module '" + stored.module.name + "' was never stored");
  }
  const std::string text = json_text(assemble(manifest));
  parse_artifact_manifest(text, "qwb.json");  // what a reader would refuse is never written
  copy_rest();
  tensors_->finish();
  write_file(folder_.path() / "qwb.json", text);
  Json config = source_.config;
  Json quantization = {{"quant_method", "qwb"},
                       {"format_version", kArtifactVersion},
                       {"method", manifest.at("method")}};
  for (const auto& [key, value] : manifest.at("settings").items()) quantization[key] = value;
  config["quantization_config"] = quantization;
  write_file(folder_.path() / "config.json", json_text(config));
  write_companions(source_, folder_.path());
  write_file(folder_.path() / kArtifactSums, written_files_text(folder_.path(), context_));
  return folder_.commit(replace);
}

}  // namespace qwb
