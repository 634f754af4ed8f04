#include "lib/model/architectures/config_fields.h"

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"

namespace qwb {
namespace {

constexpr int64_t kLargest = int64_t{1} << 31;

int64_t checked_size(int64_t value, const std::string& key, const std::string& where) {
  if (value < 1 || value > kLargest) {
    throw Error(ErrorKind::failed,
                "'" + key + "' must be between 1 and 2^31, not " + std::to_string(value), where);
  }
  return value;
}

bool absent(const Json& config, const std::string& key) {
  return !config.is_object() || !config.contains(key);
}

}  // namespace

int64_t config_size(const Json& config, const std::string& key, const std::string& where,
                    int64_t fallback) {
  return checked_size(absent(config, key) ? fallback : json_int(config, key, where), key, where);
}
double config_number(const Json& config, const std::string& key, const std::string& where,
                     double fallback) {
  return absent(config, key) ? fallback : json_number(config, key, where);
}
bool config_switch(const Json& config, const std::string& key, const std::string& where,
                   bool fallback) {
  return absent(config, key) ? fallback : json_bool(config, key, where);
}

Activation config_activation(const Json& config, const std::string& key, const std::string& where,
                             const std::string& fallback) {
  const std::string name = absent(config, key) ? fallback : json_string(config, key, where);
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast" ||
      name == "gelu_accurate" || name == "gelu_python_tanh")
    return Activation::gelu_tanh;
  if (name == "gelu" || name == "gelu_python") return Activation::gelu_erf;
  if (name == "quick_gelu") return Activation::quick_gelu;
  if (name == "relu") return Activation::relu;
  throw Error(ErrorKind::unsupported, "activation '" + name + "' is not known", where,
              "known: silu, gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, quick_gelu, relu");
}

void parse_special_ids(const Json& config, const std::string& where, int64_t bos, int64_t eos,
                       ModelConfig& out) {
  out.bos = absent(config, "bos_token_id") ? bos : json_int(config, "bos_token_id", where, -1);
  if (absent(config, "eos_token_id")) {
    if (eos >= 0) out.eos.push_back(eos);
    return;
  }
  const Json& given = config.at("eos_token_id");
  if (given.is_null()) return;
  if (!given.is_array()) {
    out.eos.push_back(json_int(config, "eos_token_id", where));
    return;
  }
  for (const Json& id : given) {
    if (!id.is_number_integer())
      throw Error(ErrorKind::failed, "'eos_token_id' must hold integers", where);
    out.eos.push_back(id.get<int64_t>());
  }
}

std::optional<std::vector<bool>> sliding_layers(const Json& config, const std::string& where,
                                                int64_t layers) {
  if (!json_has(config, "layer_types")) return std::nullopt;
  const Json& types = config.at("layer_types");
  if (!types.is_array() || static_cast<int64_t>(types.size()) != layers)
    throw Error(ErrorKind::failed, "'layer_types' must name every layer", where);
  std::vector<bool> slides;
  for (const Json& type : types) {
    if (type != "sliding_attention" && type != "full_attention" && type != "attention")
      throw Error(ErrorKind::unsupported,
                  "'layer_types' holds " + type.dump() + ", which is not known", where,
                  "known: full_attention, sliding_attention");
    slides.push_back(type == "sliding_attention");
  }
  return slides;
}

// Nested parameters, one set for each kind of layer, belong to other families; transformers fails
// on them.
void refuse_nested_rope(const Json& config, const std::string& where) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (!json_has(config, key) || !config.at(key).is_object()) continue;
    for (const char* kind : {"full_attention", "sliding_attention"}) {
      if (config.at(key).contains(kind))
        throw Error(ErrorKind::unsupported, std::string("'") + key + "' for each kind of layer",
                    where);
    }
  }
}

std::vector<bool> all_but_every(const Json& config, const std::string& key,
                                const std::string& where, int64_t fallback, int64_t layers) {
  const int64_t interval = config.contains(key) ? json_int(config, key, where) : fallback;
  if (interval == 0) throw Error(ErrorKind::failed, "'" + key + "' must not be 0", where);
  std::vector<bool> all;
  for (int64_t i = 0; i < layers; ++i) all.push_back((i + 1) % interval != 0);
  return all;
}

std::vector<bool> slides_by_pattern(const Json& config, const std::string& where, int64_t fallback,
                                    int64_t layers) {
  if (const auto named = sliding_layers(config, where, layers)) return *named;
  return all_but_every(config, "sliding_window_pattern", where, fallback, layers);
}

void refuse_slides_without_window(const Json& config, const std::string& where, bool window) {
  if (window || !json_has(config, "layer_types")) return;
  for (const Json& type : config.at("layer_types")) {
    if (type == "sliding_attention")
      throw Error(ErrorKind::failed, "'layer_types' names sliding layers, but there is no window",
                  where, "set 'sliding_window', and for Qwen 'use_sliding_window'");
  }
}

int64_t window_size(const Json& config, const std::string& where, int64_t fallback) {
  const std::string key = "sliding_window";
  if (absent(config, key)) return fallback;
  return config.at(key).is_null() ? 0 : config_size(config, key, where, 0);
}

}  // namespace qwb
