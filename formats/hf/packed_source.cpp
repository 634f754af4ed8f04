#include "formats/hf/packed_source.h"

#include <algorithm>

#include "formats/qwb/artifact.h"
#include "lib/base/hash.h"
#include "lib/codec/integer_grid.h"

namespace qwb {
namespace {

// compression_config was either what quantization_config is now, or held it.
Json old_compressed_settings(Json settings) {
  if (!settings.is_object()) return settings;
  if (json_has(settings, "quantization_config")) {
    Json inner = settings.at("quantization_config");
    for (const char* key : {"sparsity_config", "transform_config"}) {
      if (inner.is_object() && json_has(settings, key) && !json_has(inner, key))
        inner[key] = settings.at(key);
    }
    settings = std::move(inner);
  }
  if (settings.is_object() && !json_has(settings, "quant_method"))
    settings["quant_method"] = "compressed-tensors";
  return settings;
}

}  // namespace

Json announced_settings(const Path& folder, const Json& config) {
  const bool current = json_has(config, "quantization_config"),
             old = json_has(config, "compression_config");
  if (current && old && config.at("quantization_config") != config.at("compression_config")) {
    throw Error(
        ErrorKind::unsupported, "quantization_config and compression_config say different things",
        (folder / "config.json").string(), "remove the one that does not belong to these tensors");
  }
  if (current) return config.at("quantization_config");
  // As llm-compressor called it until 2024.
  if (old) return old_compressed_settings(config.at("compression_config"));
  std::error_code ignored;
  // Where Model Optimizer wrote them before it wrote config.json's too.
  const Path modelopt = folder / "hf_quant_config.json";
  if (std::filesystem::is_regular_file(modelopt, ignored)) {
    const Json all = parse_json(read_text(modelopt, 1 << 20), modelopt.string());
    if (json_has(all, "quantization") && all.at("quantization").is_object()) {
      Json settings = all.at("quantization");
      settings["quant_method"] = "modelopt";
      return settings;
    }
  }
  const Path file = folder / "quantize_config.json";
  if (!std::filesystem::is_regular_file(file, ignored)) return nullptr;
  Json settings = parse_json(read_text(file, 1 << 20), file.string());
  if (settings.is_object() && !json_has(settings, "quant_method"))
    settings["quant_method"] = "gptq";
  return settings;
}

OpenModel open_packed(const std::shared_ptr<const Checkpoint>& files,
                      std::shared_ptr<const PackedReader> reader, const Context& context) {
  Json settings = announced_settings(files->folder(), files->config());
  const std::string format = reader->name();
  const auto source =
      std::make_shared<PackedSource>(files, std::move(reader), std::move(settings), context);
  return {source, files->config(),    files->folder(),
          format, source->manifest(), files->weight_bytes()};
}

PackedSource::PackedSource(std::shared_ptr<const Checkpoint> files,
                           std::shared_ptr<const PackedReader> reader, Json settings,
                           const Context& context)
    : files_(std::move(files)),
      reader_(std::move(reader)),
      settings_(std::move(settings)),
      threads_(context.threads) {
  reader_->check(settings_);
  modules_ = reader_->modules(*files_, settings_, context);
  if (modules_.empty()) {
    throw Error(ErrorKind::failed,
                "config.json says the weights are quantized by '" + reader_->name() +
                    "', but no module has the tensors of that format",
                files_->folder().string(), "the folder is incomplete; fetch it again");
  }
  for (size_t i = 0; i < modules_.size(); ++i) {
    index_.emplace(modules_[i].name, i);
    hidden_.insert(modules_[i].tensors.begin(), modules_[i].tensors.end());
  }
  for (const PackedModule& module : modules_) {
    const std::string plain = module.name + ".weight";
    if (!hidden_.contains(plain) && files_->find(plain))
      throw Error(ErrorKind::failed, "is stored twice, quantized and plain", module.name);
    if (reader_->quantizes(settings_, module.name) == false) {
      throw Error(
          ErrorKind::failed,
          "is quantized, and the quantization_config says that it is not: loaders would refuse or "
          "misread it",
          module.name, "config.json does not belong to these tensors");
    }
  }
}

std::vector<std::string> PackedSource::notes() const {
  std::vector<std::string> notes = files_->notes();
  const std::vector<std::string> general = reader_->notes(settings_);
  notes.insert(notes.end(), general.begin(), general.end());
  std::map<std::string, std::vector<std::string>> told;  // modules by what is to be told of them
  for (const PackedModule& module : modules_) {
    if (!module.note.empty()) told[module.note].push_back(module.name);
  }
  for (const auto& [note, names] : told) {
    notes.push_back(
        names.front() +
        (names.size() > 1 ? " and " + std::to_string(names.size() - 1) + " more modules" : "") +
        ": " + note);
  }
  return notes;
}

std::optional<TensorView> PackedSource::find(const std::string& name) const {
  return hidden_.contains(name) ? std::nullopt : files_->find(name);
}

std::vector<std::string> PackedSource::names() const {
  auto result = files_->names();
  std::erase_if(result, [&](const std::string& name) { return hidden_.contains(name); });
  return result;
}

std::vector<std::string> PackedSource::quantized_modules() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : index_) names.push_back(name);
  return names;
}

const PackedModule& PackedSource::module_of(const std::string& name) const {
  const auto it = index_.find(name);
  if (it == index_.end())
    throw Error(ErrorKind::not_found, "no quantized module '" + name + "'",
                files_->folder().string());
  return modules_[it->second];
}

LoadedWeight PackedSource::load_quantized(const std::string& module) const {
  const PackedModule& found = module_of(module);
  LoadedWeight weight = reader_->read(*files_, settings_, found, {threads_});
  check_weight(weight.weight, module);
  release_rearranged(found, weight.weight);
  return weight;
}

std::optional<LoadedWeight> PackedSource::load_words(const std::string& module) const {
  const PackedModule& found = module_of(module);
  const WeightLayout& layout = found.layout;
  const auto* grid = layout.as<IntegerGrid>();
  const bool words = reader_->moves_words() && grid != nullptr && grid->bits == 4 &&
                     layout.in % 8 == 0 && grid->in_order();
  if (!words) return std::nullopt;
  LoadedWeight weight = reader_->read_words(*files_, settings_, found, {threads_});
  release_rearranged(found, weight.weight);
  return weight;
}

// What was rearranged is not read again.
void PackedSource::release_rearranged(const PackedModule& module, const Weight& weight) const {
  const auto parts = weight.parts();
  for (const std::string& tensor : module.tensors) {
    const TensorView view = *files_->find(tensor);
    const bool used = std::any_of(parts.begin(), parts.end(), [&](const auto& part) {
      return part.second.bytes.data() == view.bytes.data();
    });
    if (!used) files_->release(view);
  }
}

WeightLayout PackedSource::quantized_layout(const std::string& module) const {
  return module_of(module).layout;
}

std::optional<Weight> PackedSource::quantized(const std::string& module) const {
  if (!index_.contains(module)) return std::nullopt;
  const std::lock_guard lock(mutex_);
  auto& loaded = loaded_[module];
  if (!loaded) loaded = std::make_unique<LoadedWeight>(load_quantized(module));
  return loaded->weight;
}

bool PackedSource::in_files(const TensorView& view) const {
  const std::less_equal<const std::byte*> ordered;
  return std::any_of(files_->files().begin(), files_->files().end(), [&](const auto& file) {
    const Bytes all = file->mapped().bytes();
    return ordered(all.data(), view.bytes.data()) &&
           ordered(view.bytes.data() + view.bytes.size(), all.data() + all.size());
  });
}

void PackedSource::release(const TensorView& view) const {
  if (in_files(view)) files_->release(view);
}

void PackedSource::prefetch(const TensorView& view) const {
  if (in_files(view)) files_->prefetch(view);
}

std::string PackedSource::content_hash(const Path& memo_folder, const Context& context) const {
  Hasher hasher;
  hasher.field("qwb-packed-1").field(reader_->name()).field(json_canonical(settings_));
  return hasher.field(files_->content_hash(memo_folder, context)).hex();
}

Json PackedSource::manifest() const {
  Json modules = Json::array();
  double module_weights = 0, code_bits = 0, weights = 0, bytes = 0;
  for (const PackedModule& module : modules_) {
    const auto size =
        static_cast<double>(module.layout.out) * static_cast<double>(module.layout.in);
    modules.push_back(module_entry(module.name, module.layout));
    module_weights += size;
    code_bits += size * static_cast<double>(module.layout.code_bits());
    bytes += static_cast<double>(module.layout.bytes());
  }
  weights = module_weights;
  for (const std::string& name : names()) {
    const TensorView view = *find(name);
    weights += static_cast<double>(view.count());
    bytes += static_cast<double>(view.bytes.size());
  }
  return {{"method", reader_->name()},
          {"bits", module_weights > 0 ? Json(code_bits / module_weights) : Json(nullptr)},
          {"settings", settings_},
          {"modules", modules},
          {"totals", size_json(static_cast<int64_t>(weights), static_cast<int64_t>(bytes))}};
}

}  // namespace qwb
