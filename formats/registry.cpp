#include "formats/registry.h"

#include <algorithm>
#include <iterator>

#include "formats/awq_gemm.h"
#include "formats/bitsandbytes.h"
#include "formats/checkpoint.h"
#include "formats/compressed_tensors.h"
#include "formats/gguf_model.h"
#include "formats/gptq.h"
#include "formats/model_check.h"
#include "formats/packed_source.h"
#include "formats/plain.h"
#include "formats/qwb.h"
#include "formats/qwb_format.h"
#include "lib/base/hash.h"
#include "lib/base/names.h"

namespace qwb {
namespace fs = std::filesystem;

namespace {

bool has(const Path& folder, const char* name) {
  std::error_code ignored;
  return fs::is_regular_file(folder / name, ignored);
}

bool detect_huggingface(const Path& folder) {
  return has(folder, "config.json");
}

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

// What config.json says about the weights' format, or the file that older GPTQ checkpoints have
// beside it.
Json packed_settings(const Path& folder, const Json& config) {
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
  const Path file = folder / "quantize_config.json";
  if (!has(folder, "quantize_config.json")) return nullptr;
  Json settings = parse_json(read_text(file, 1 << 20), file.string());
  if (settings.is_object() && !json_has(settings, "quant_method"))
    settings["quant_method"] = "gptq";
  return settings;
}

OpenModel open_packed(const std::shared_ptr<const Checkpoint>& checkpoint, const Json& settings,
                      const Context& context) {
  const Path& folder = checkpoint->folder();
  const PackedFormat* format = settings.is_object() ? detect_packed_format(settings) : nullptr;
  if (format != nullptr) {
    const auto source = std::make_shared<PackedSource>(checkpoint, *format, settings, context);
    return {source,         checkpoint->config(), folder,
            format->name(), source->manifest(),   checkpoint->weight_bytes()};
  }
  const std::string method =
      settings.is_object()
          ? json_string(settings, "quant_method", (folder / "config.json").string(), "?")
          : "?";
  if (method == "qwb") {
    throw Error(ErrorKind::failed,
                "config.json says this is a qwb artifact, but qwb.json is missing", folder.string(),
                "the artifact is incomplete");
  }
  throw Error(ErrorKind::unsupported,
              "the weights are already quantized by '" + method.substr(0, 40) + "'",
              folder.string(), "take the model it was made from");
}

OpenModel open_huggingface(const Path& folder, const Context& context) {
  const auto checkpoint = Checkpoint::open(folder);
  const Json settings = packed_settings(folder, checkpoint->config());
  if (!settings.is_null()) return open_packed(checkpoint, settings, context);
  return {checkpoint, checkpoint->config(),      folder, "huggingface",
          nullptr,    checkpoint->weight_bytes()};
}

bool detect_qwb(const Path& folder) {
  return has(folder, "qwb.json");
}

OpenModel open_qwb(const Path& folder, const Context& /*context*/) {
  const auto artifact = Artifact::open(folder);
  return {artifact, artifact->config(),        folder,
          "qwb",    artifact->manifest().json, artifact->weight_bytes()};
}

// A folder with safetensors is a checkpoint, even if it has a GGUF file too.
bool detect_gguf(const Path& path) {
  std::error_code ignored;
  // By its first bytes: the blobs of Ollama have no suffix.
  if (fs::is_regular_file(path, ignored)) return is_gguf_file(path);
  if (has(path, "model.safetensors") || has(path, "model.safetensors.index.json")) return false;
  return fs::is_directory(path, ignored) && gguf_in_folder(path).has_value();
}

OpenModel open_gguf(const Path& path, const Context& context) {
  const auto model = GgufModel::open(path, context.threads);
  return {model, model->config(), path, "gguf", nullptr, model->weight_bytes()};
}

struct Format {
  const char* name;
  bool (*detect)(const Path& folder);
  OpenModel (*open)(const Path& folder, const Context& context);
};

// The first that detects its folder opens it.
constexpr Format kFormats[] = {
    {"qwb", detect_qwb, open_qwb},
    {"gguf", detect_gguf, open_gguf},
    {"huggingface", detect_huggingface, open_huggingface},
};

}  // namespace

const std::vector<std::unique_ptr<PackedFormat>>& packed_formats() {
  static const auto formats = [] {
    std::vector<std::unique_ptr<PackedFormat>> list;
    list.push_back(make_gptq(GptqVersion::automatic));
    list.push_back(make_gptq(GptqVersion::v1));
    list.push_back(make_gptq(GptqVersion::v2));
    list.push_back(make_awq_gemm());
    list.push_back(make_bitsandbytes());
    list.push_back(make_compressed_tensors(CompressedLayout::packed));
    list.push_back(make_compressed_tensors(CompressedLayout::bytes));
    list.push_back(make_plain());
    list.push_back(make_qwb_format());
    return list;
  }();
  return formats;
}

std::string OpenModel::content_hash(const Path& memo_folder, const Context& context) const {
  const auto model = std::dynamic_pointer_cast<const ModelSource>(source);
  if (!model)
    throw Error(ErrorKind::unsupported, "the tensors do not come from a model folder",
                folder.string());
  const std::string hash = model->content_hash(memo_folder, context);
  return untied ? Hasher().field("qwb-untied-1").field(hash).hex() : hash;
}

std::string OpenModel::config_name() const {
  return (format == "gguf" ? folder : folder / "config.json").string();
}

bool detect_model(const Path& folder) {
  return std::any_of(std::begin(kFormats), std::end(kFormats),
                     [&](const Format& format) { return format.detect(folder); });
}

OpenModel open_model(const Path& folder, const Context& context) {
  for (const Format& format : kFormats) {
    if (!format.detect(folder)) continue;
    OpenModel open = format.open(folder, context);
    std::vector<std::string> notes = check_model(open);
    if (const auto model = std::dynamic_pointer_cast<const ModelSource>(open.source)) {
      const std::vector<std::string> found = model->notes();
      notes.insert(notes.begin(), found.begin(), found.end());
    }
    for (const std::string& note : notes) context.progress->note(folder.string() + ": " + note);
    return open;
  }
  std::error_code ignored;
  if (fs::is_directory(folder, ignored) &&
      (has(folder, "model.safetensors") || has(folder, "model.safetensors.index.json"))) {
    Checkpoint::open(folder);  // its error names the missing config.json
  }
  refuse_folder(folder);
}

std::vector<std::string> model_format_names() {
  std::vector<std::string> names;
  for (const Format& format : kFormats) names.emplace_back(format.name);
  for (const auto& format : packed_formats()) {
    if (std::find(names.begin(), names.end(), format->name()) == names.end())
      names.push_back(format->name());
  }
  return names;
}

}  // namespace qwb
