#include "lib/adapt/bind.h"

#include <algorithm>

#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/model/architecture.h"
#include "lib/model/config.h"

namespace qwb {
namespace {

std::string nearest_text(const std::string& path, const std::vector<AdaptableModule>& modules) {
  std::vector<std::string> paths;
  for (const AdaptableModule& module : modules) paths.push_back(module.path);
  const auto nearest = nearest_name(path, paths);
  if (nearest) return "the nearest is '" + *nearest + "'";
  return paths.empty() ? std::string() : "its modules are called like '" + paths.front() + "'";
}

bool is_dotted_end(const std::string& end, const std::string& name) {
  return name == end || name.ends_with("." + end);
}

// By its path, by its name, or where one of the two has something more in front.
const AdaptableModule* find_module(const std::string& path,
                                   const std::vector<AdaptableModule>& modules) {
  for (const AdaptableModule& module : modules) {
    if (module.path == path || module.name == path) return &module;
  }
  const AdaptableModule* found = nullptr;
  for (const AdaptableModule& module : modules) {
    if (!is_dotted_end(module.path, path) && !is_dotted_end(path, module.path)) continue;
    if (found != nullptr) return nullptr;  // it could be either
    found = &module;
  }
  return found;
}

std::string sizes_text(int64_t out, int64_t in) {
  return "[" + std::to_string(out) + ", " + std::to_string(in) + "]";
}

}  // namespace

std::string peft_path_prefix(const ModelConfig& config, const ModelSpec& spec) {
  const Architecture& architecture = find_architecture(config.architecture, "the model");
  if (!architecture.gguf) return {};
  const std::string& prefix = architecture.gguf->optional_prefix;
  return spec.embedding.starts_with(prefix) ? std::string() : prefix;
}

std::vector<AdaptableModule> adaptable_modules(const ModelConfig& config, const ModelSpec& spec) {
  const std::string prefix = peft_path_prefix(config, spec);
  std::vector<AdaptableModule> modules;
  for (const BlockSpec& block : spec.blocks) {
    for (const LinearSpec& linear : block_linears(block)) {
      modules.push_back({.name = linear.module,
                         .path = prefix + linear.module,
                         .out = linear.out,
                         .in = linear.in,
                         .orientation = linear.orientation});
    }
  }
  modules.push_back({.name = spec.output_embedding,
                     .path = "lm_head",
                     .out = config.vocab,
                     .in = config.hidden,
                     .head = true});
  return modules;
}

Adapter bind_to_base(Adapter adapter, const std::vector<AdaptableModule>& modules,
                     const std::string& where) {
  for (AdapterModule& module : adapter.modules) {
    const AdaptableModule* found = find_module(module.module, modules);
    if (found == nullptr)
      throw Error(ErrorKind::failed,
                  "the adapter is of a module '" + module.module + "' that the model does not have",
                  where, nearest_text(module.module, modules));
    if (found->out != module.out || found->in != module.in)
      throw Error(ErrorKind::failed,
                  "the adapter's module '" + module.module + "' is " +
                      sizes_text(module.out, module.in) + ", the model's is " +
                      sizes_text(found->out, found->in),
                  where, "the adapter is of another model");
    module.module = found->name;
  }
  std::ranges::sort(adapter.modules, {}, &AdapterModule::module);
  for (size_t i = 1; i < adapter.modules.size(); ++i) {
    if (adapter.modules[i].module == adapter.modules[i - 1].module)
      throw Error(ErrorKind::failed,
                  "two modules of the adapter are '" + adapter.modules[i].module + "' of the model",
                  where);
  }
  return adapter;
}

}  // namespace qwb
