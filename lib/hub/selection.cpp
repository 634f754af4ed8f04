#include "lib/hub/selection.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <set>

namespace qwb::hub {
namespace {

using Paths = std::vector<std::string>;

constexpr std::array kCompanions = {"config.json",
                                    "generation_config.json",
                                    "tokenizer*",
                                    "special_tokens_map.json",
                                    "added_tokens.json",
                                    "vocab.json",
                                    "vocab.txt",
                                    "merges.txt",
                                    "*.tiktoken",
                                    "spiece.model",
                                    "*.jinja",
                                    "additional_chat_templates/*.jinja",
                                    "quantize_config.json",
                                    "quant_config.json",
                                    "preprocessor_config.json",
                                    "processor_config.json",
                                    "LICENSE*",
                                    "LICENCE*",
                                    "NOTICE*",
                                    "Notice*",
                                    "USE_POLICY*",
                                    "COPYING*",
                                    "qwb.json",
                                    "qwb.sums"};

// Never by default, whatever else matches: weights of other kinds.
constexpr std::array kOtherWeights = {"*.bin", "*.pth",  "*.pt",      "*.onnx",       "*.gguf",
                                      "*.h5",  "*.ckpt", "*.msgpack", "*.onnx_data*", "original/*"};

constexpr std::array kNotData = {
    ".gitattributes", "*/.gitattributes", ".gitignore", "README.md", "LICENSE*", "*.py", "*.png",
    "*.jpg",          "*.jpeg",           "*.svg",      "*.gif"};

template <size_t count>
bool any(const std::array<const char*, count>& patterns, const std::string& path) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const char* p) { return matches(p, path); });
}

bool any(const Paths& patterns, const std::string& path) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& p) { return matches(p, path); });
}

bool contains(const Paths& paths, const std::string& path) {
  return std::find(paths.begin(), paths.end(), path) != paths.end();
}

bool at_top(const std::string& path) {
  return path.find('/') == std::string::npos;
}

// Only where there are no safetensors.
Paths pytorch_weights(const Paths& paths) {
  if (contains(paths, "pytorch_model.bin")) return {"pytorch_model.bin"};
  if (!contains(paths, "pytorch_model.bin.index.json")) return {};
  Paths weights = {"pytorch_model.bin.index.json"};
  for (const std::string& path : paths) {
    if (at_top(path) && matches("pytorch_model-*-of-*.bin", path)) weights.push_back(path);
  }
  return weights;
}

Paths model_weights(const Paths& paths) {
  if (contains(paths, "model.safetensors")) return {"model.safetensors"};
  Paths weights;
  if (contains(paths, "model.safetensors.index.json")) {
    weights.push_back("model.safetensors.index.json");
    for (const std::string& path : paths) {
      if (at_top(path) && matches("model-*-of-*.safetensors", path)) weights.push_back(path);
    }
    if (weights.size() > 1) return weights;
  }
  for (const std::string& path : paths) {
    if (at_top(path) && matches("*.safetensors", path) && !matches("consolidated*", path))
      weights.push_back(path);
  }
  return weights.empty() ? pytorch_weights(paths) : weights;
}

}  // namespace

OtherWeights other_weights(const Paths& paths) {
  const auto with = [&](std::initializer_list<const char*> patterns) {
    Paths found;
    std::copy_if(paths.begin(), paths.end(), std::back_inserter(found),
                 [&](const std::string& path) {
                   return std::any_of(patterns.begin(), patterns.end(),
                                      [&](const char* p) { return matches(p, path); });
                 });
    return found;
  };
  constexpr const char* kConvert =
      "take a repository or revision with safetensors, or convert it with transformers' "
      "save_pretrained";
  OtherWeights other;
  if (!(other.files = with({"adapter_model*"})).empty()) {
    other.what = "the repository holds a LoRA adapter, not a model";
    other.advice =
        "pull the model it was made for and merge the adapter into it (peft: merge_and_unload)";
  } else if (!(other.files = with({"*.gguf"})).empty()) {
    other.what = "the repository has no safetensors; its weights are GGUF files";
    other.advice = "one of them; then name that file to the tools";
    other.pulled_by_name = true;
  } else if (!(other.files = with({"*.bin", "*.pth", "*.pt", "*.ckpt"})).empty()) {
    other.what =
        "the repository has no safetensors; its weights are pickled PyTorch files of other names";
    other.advice = kConvert;
  } else if (!(other.files = with({"*.safetensors"})).empty()) {
    other.what = "the repository has no model at its top; its safetensors lie elsewhere";
    other.advice = "them; then name their folder to the tools";
    other.pulled_by_name = true;
  } else if (!(other.files = with({"*.onnx", "*.h5", "*.msgpack"})).empty()) {
    other.what = "the repository has no safetensors; its weights are of another framework";
    other.advice = kConvert;
  }
  return other;
}

bool matches(const std::string& pattern, const std::string& path) {
  const std::string full = pattern.ends_with('/') ? pattern + "*" : pattern;
  return ::fnmatch(full.c_str(), path.c_str(), FNM_NOESCAPE) == 0;
}

bool has_wildcard(const std::string& pattern) {
  return pattern.ends_with('/') || pattern.find_first_of("*?[") != std::string::npos;
}

Paths default_files(RepoKind kind, const Paths& paths) {
  Paths wanted;
  if (kind == RepoKind::dataset) {
    std::copy_if(paths.begin(), paths.end(), std::back_inserter(wanted),
                 [](const std::string& path) { return !any(kNotData, path); });
    return wanted;
  }
  const Paths weights = model_weights(paths);
  for (const std::string& path : paths) {
    const bool companion = any(kCompanions, path) && !any(kOtherWeights, path) &&
                           (at_top(path) || path.starts_with("additional_chat_templates/"));
    if (companion || contains(weights, path)) wanted.push_back(path);
  }
  return wanted;
}

Paths Selection::apply(RepoKind kind, const Paths& paths) const {
  Paths wanted;
  if (include.empty()) {
    wanted = default_files(kind, paths);
  } else {
    std::copy_if(paths.begin(), paths.end(), std::back_inserter(wanted),
                 [&](const std::string& path) { return any(include, path); });
  }
  std::erase_if(wanted, [&](const std::string& path) { return any(exclude, path); });
  return wanted;
}

std::vector<RemoteFile> Selection::apply(RepoKind kind,
                                         const std::vector<RemoteFile>& files) const {
  Paths paths;
  for (const RemoteFile& file : files) paths.push_back(file.path);
  const Paths wanted = apply(kind, paths);
  const std::set<std::string> names(wanted.begin(), wanted.end());
  std::vector<RemoteFile> chosen;
  std::copy_if(files.begin(), files.end(), std::back_inserter(chosen),
               [&](const RemoteFile& file) { return names.contains(file.path); });
  return chosen;
}

const Paths& optional_model_files() {
  static const Paths files = {"model.safetensors",       "model.safetensors.index.json",
                              "generation_config.json",  "tokenizer.json",
                              "tokenizer.model",         "tokenizer_config.json",
                              "special_tokens_map.json", "added_tokens.json",
                              "chat_template.jinja",     "chat_template.json",
                              "adapter_config.json",     "processor_config.json"};
  return files;
}

}  // namespace qwb::hub
