#include "lib/adapt/peft_reader.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "formats/safetensors/safetensors.h"
#include "lib/base/error.h"
#include "lib/base/names.h"

namespace qwb {
namespace {

constexpr char kPrefix[] = "base_model.model.";
constexpr int64_t kMostConfigBytes = 1 << 24;

// A tensor's name, taken apart.
struct TensorPlace {
  enum class Kind { a, b, replaced };
  Kind kind;
  std::string path;  // of the module; of a replaced tensor with ".weight" or ".bias"
};

std::string without(std::string text, const std::string& part) {
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at))
    text.erase(at, part.size());
  return text;
}

TensorPlace place_of(const std::string& name, const std::string& where) {
  using Kind = TensorPlace::Kind;
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::unsupported, "tensor '" + name + "': " + what, where);
  };
  if (!name.starts_with(kPrefix))
    refuse("its name does not begin with '" + std::string(kPrefix) + "'");
  const std::string path = name.substr(sizeof kPrefix - 1);
  for (const auto& [suffix, kind] :
       {std::pair(".lora_A.weight", Kind::a), std::pair(".lora_B.weight", Kind::b)}) {
    if (path.ends_with(suffix))
      return {kind, path.substr(0, path.size() - std::string_view(suffix).size())};
  }
  if (path.find("lora_magnitude_vector") != std::string::npos) refuse("DoRA is not implemented");
  if (path.find("lora_embedding_") != std::string::npos)
    refuse("adapters of token embeddings are not implemented");
  if (path.find("lora_") != std::string::npos) refuse("this part of an adapter is not implemented");
  if (!path.ends_with(".weight") && !path.ends_with(".bias")) refuse("it is none of an adapter's");
  return {Kind::replaced, without(without(path, ".base_layer"), ".modules_to_save")};
}

std::vector<float> finite_floats(const TensorView& view, const std::string& name,
                                 const std::string& where) {
  if (view.dtype != DType::f32 && view.dtype != DType::f16 && view.dtype != DType::bf16)
    throw Error(ErrorKind::unsupported,
                "tensor '" + name + "' is " + std::string(dtype_name(view.dtype)), where,
                "adapters are F32, F16 or BF16");
  std::vector<float> values = read_floats(view, where + ": " + name);
  for (const float value : values) {
    if (!std::isfinite(value))
      throw Error(ErrorKind::failed, "tensor '" + name + "' holds NaN or Inf", where,
                  "the training diverged, or the file is damaged");
  }
  return values;
}

std::shared_ptr<const Tensor> copy_of(const TensorView& view) {
  auto tensor = std::make_shared<Tensor>(view.dtype, view.shape);
  std::copy(view.bytes.begin(), view.bytes.end(), tensor->bytes().begin());
  return tensor;
}

// Factors of one module on their way.
struct Pair {
  std::optional<TensorView> a, b;
};

AdapterModule module_of(const std::string& path, const Pair& pair, const PeftConfig& config,
                        const std::string& where) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorKind::failed, "module '" + path + "': " + what, where);
  };
  if (!pair.a || !pair.b) fail(pair.a ? "lora_B is missing" : "lora_A is missing");
  const Shape &a = pair.a->shape, &b = pair.b->shape;
  if (a.size() != 2 || b.size() != 2 || a[0] != b[1] || a[0] < 1 || a[1] < 1 || b[0] < 1)
    fail("lora_A " + shape_text(a) + " and lora_B " + shape_text(b) + " do not fit each other");
  if (a[0] != config.rank_of(path))
    fail("the tensors' rank is " + std::to_string(a[0]) + ", adapter_config.json says " +
         std::to_string(config.rank_of(path)));
  return {.module = path,
          .rank = a[0],
          .in = a[1],
          .out = b[0],
          .a = finite_floats(*pair.a, path + ".lora_A", where),
          .b = finite_floats(*pair.b, path + ".lora_B", where),
          .scale = adapter_scale(config.alpha_of(path), a[0], config.rslora())};
}

PeftConfig read_config(const Path& folder) {
  const Path file = folder / "adapter_config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored))
    throw Error(ErrorKind::not_found, "there is no adapter_config.json here", folder.string(),
                "an adapter is a folder as PEFT writes it, or a GGUF file");
  return {parse_json(read_text(file, kMostConfigBytes), file.string()), file.string()};
}

SafetensorsFile open_tensors(const Path& folder) {
  const Path file = folder / "adapter_model.safetensors";
  std::error_code ignored;
  if (std::filesystem::exists(file, ignored)) return SafetensorsFile::open(file);
  if (std::filesystem::exists(folder / "adapter_model.bin", ignored))
    throw Error(ErrorKind::unsupported, "adapter_model.bin is a pickle, which is not read",
                folder.string(),
                "load it in PEFT and save it again: save_pretrained(DIR, safe_serialization=True)");
  throw Error(ErrorKind::not_found, "there is no adapter_model.safetensors here", folder.string());
}

}  // namespace

PeftAdapter read_peft(const Path& folder) {
  PeftAdapter read{read_config(folder), {}, folder};
  const PeftConfig& config = read.config;
  const SafetensorsFile file = open_tensors(folder);
  const std::string where = file.mapped().path().string();
  std::map<std::string, Pair> pairs;
  for (const SafetensorsEntry& entry : file.header().tensors) {
    const TensorPlace place = place_of(entry.name, where);
    const TensorView view = file.view(entry);
    if (place.kind == TensorPlace::Kind::replaced) {
      finite_floats(view, entry.name, where);
      read.adapter.replaced.emplace(place.path, copy_of(view));
    } else {
      (place.kind == TensorPlace::Kind::a ? pairs[place.path].a : pairs[place.path].b) = view;
    }
  }
  if (pairs.empty() && read.adapter.replaced.empty())
    throw Error(ErrorKind::failed, "there is no tensor in it", where,
                "the adapter was saved empty: it must be trained, or saved, again");
  for (const auto& [path, pair] : pairs)
    read.adapter.modules.push_back(module_of(path, pair, config, where));
  read.adapter.settings = {.rank = config.rank(),
                           .alpha = config.alpha(),
                           .rslora = config.rslora(),
                           .dropout = config.dropout(),
                           .base = config.base(),
                           .revision = config.revision(),
                           .targets = config.targets()};
  return read;
}

Adapter bind_peft(PeftAdapter read, const std::vector<AdaptableModule>& modules) {
  const std::string where = read.folder.string();
  Adapter bound = bind_to_base(std::move(read.adapter), modules, where);
  std::set<std::string> there;
  for (const AdapterModule& module : bound.modules) there.insert(module.module);
  for (const AdaptableModule& module : modules) {
    if (there.contains(module.name)) continue;
    if (read.config.takes(module.path, module.head).value_or(false))
      throw Error(ErrorKind::failed,
                  "adapter_config.json asks for module '" + module.path +
                      "', and the file has no factors of it",
                  where, "the adapter was saved in part, or is of another model");
  }
  for (const std::string& name : read.config.saved()) {
    const bool found = std::ranges::any_of(bound.replaced, [&](const auto& entry) {
      const std::string module = entry.first.substr(0, entry.first.rfind('.'));
      return module == name || module.ends_with("." + name);
    });
    if (!found)
      throw Error(ErrorKind::failed, "modules_to_save names '" + name + "', and the file has none",
                  where);
  }
  return bound;
}

}  // namespace qwb
