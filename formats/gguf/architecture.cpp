#include "formats/gguf/architecture.h"

#include <cctype>

namespace qwb {
namespace {

std::string capitalized(std::string name) {
  name[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(name[0])));
  return name;
}

// "llama (Mistral too), qwen2, ..."
std::string names_in_gguf() {
  std::string known;
  for (const Architecture& architecture : architectures()) {
    if (!architecture.gguf || architecture.gguf->mark) continue;
    const std::string& name = architecture.gguf->name;
    known += (known.empty() ? "" : ", ") + name;
    for (const Architecture& other : architectures()) {
      if (other.gguf && other.gguf->mark && other.gguf->name == name)
        known += " (" + capitalized(other.name) + " too)";
    }
  }
  return known;
}

GgufLayout layout_of(GgufLayout layout, std::string_view ending) {
  return layout == GgufLayout::transposed && ending == ".bias" ? GgufLayout::plain : layout;
}

// Cuts "PREFIX12.rest" into "12" and "rest".
bool cut_layer(std::string_view name, std::string_view prefix, std::string_view& number,
               std::string_view& rest) {
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos || dot == 0 || dot > 6) return false;
  number = name.substr(0, dot);
  rest = name.substr(dot + 1);
  return number.find_first_not_of("0123456789") == std::string_view::npos &&
         (number.size() == 1 || number[0] != '0');
}

std::string_view cut_ending(std::string_view& name) {
  for (const std::string_view ending : {".weight", ".bias"}) {
    if (!name.ends_with(ending)) continue;
    name.remove_suffix(ending.size());
    return ending;
  }
  return {};
}

std::optional<GgufName> place_of(const GgufSpec& spec, const std::string& huggingface) {
  std::string_view name = huggingface, number, rest;
  const std::string_view ending = cut_ending(name);
  if (ending.empty()) return std::nullopt;
  const bool layer = cut_layer(name, spec.layer_prefix, number, rest);
  for (const GgufTensorName& row : layer ? spec.layer : spec.top) {
    if (row.huggingface != (layer ? rest : name)) continue;
    std::string result;
    if (layer) result.append("blk.").append(number).append(".");
    result.append(row.gguf).append(ending);
    return GgufName{result, layout_of(row.layout, ending)};
  }
  return std::nullopt;
}

}  // namespace

const Architecture& architecture_of_gguf(const GgufMetadata& metadata, const std::string& where) {
  const std::string name = metadata.text("general.architecture", where);
  const std::string type = metadata.text("general.type", where, "model");
  if (type != "model")
    throw Error(ErrorKind::unsupported,
                "the file holds no model: its general.type is '" + type + "'", where,
                "name the file of the model itself");
  const Architecture* unmarked = nullptr;
  for (const Architecture& architecture : architectures()) {
    if (!architecture.gguf || architecture.gguf->name != name) continue;
    const auto& mark = architecture.gguf->mark;
    if (!mark) unmarked = &architecture;
    if (mark && metadata.integer(name + "." + mark->key, where, 0) > 0) return architecture;
  }
  if (unmarked != nullptr) return *unmarked;
  throw Error(ErrorKind::unsupported, "the architecture '" + name + "' is not known", where,
              "known: " + names_in_gguf());
}

const GgufSpec& gguf_spec(const Json& config, const std::string& where) {
  const std::string type = json_string(config, "model_type", where);
  std::string known;
  for (const Architecture& architecture : architectures()) {
    if (!architecture.gguf) continue;
    if (architecture.name == type) return *architecture.gguf;
    known += (known.empty() ? "" : ", ") + architecture.name;
  }
  throw Error(ErrorKind::unsupported, "the architecture '" + type + "' cannot be written as GGUF",
              where, "these can: " + known);
}

std::optional<GgufName> huggingface_tensor_name(const GgufSpec& spec, const std::string& gguf) {
  std::string_view name = gguf, number, rest;
  const std::string_view ending = cut_ending(name);
  if (ending.empty()) return std::nullopt;
  const bool layer = cut_layer(name, "blk.", number, rest);
  for (const GgufTensorName& row : layer ? spec.layer : spec.top) {
    if (row.gguf != (layer ? rest : name)) continue;
    std::string full;
    if (layer) full.append(spec.layer_prefix).append(number).append(".");
    full.append(row.huggingface).append(ending);
    return GgufName{full, layout_of(row.layout, ending)};
  }
  return std::nullopt;
}

std::optional<GgufName> gguf_tensor_name(const GgufSpec& spec, const std::string& huggingface) {
  const auto place = place_of(spec, huggingface);
  if (place || spec.optional_prefix.empty()) return place;
  return place_of(spec, spec.optional_prefix + huggingface);
}

}  // namespace qwb
