#include "lib/model/config_fields.h"

#include <cmath>

#include "lib/base/error.h"

namespace qwb {
namespace {

constexpr int64_t kLargest = int64_t{1} << 31;

int64_t checked_size(int64_t value, const std::string& key, const std::string& where) {
  if (value < 1 || value > kLargest) {
    throw Error(ErrorKind::failed, "'" + key + "' must be between 1 and 2^31, not " + std::to_string(value),
                where);
  }
  return value;
}

}  // namespace

int64_t config_size(const Json& config, const std::string& key, const std::string& where) {
  return checked_size(json_int(config, key, where), key, where);
}
int64_t config_size(const Json& config, const std::string& key, const std::string& where, int64_t fallback) {
  return checked_size(json_int(config, key, where, fallback), key, where);
}

Activation parse_activation(const std::string& name, const std::string& where) {
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return Activation::gelu_tanh;
  if (name == "gelu") return Activation::gelu_erf;
  if (name == "quick_gelu") return Activation::quick_gelu;
  if (name == "relu") return Activation::relu;
  throw Error(ErrorKind::unsupported, "activation '" + name + "' is not known", where);
}

void parse_special_ids(const Json& config, const std::string& where, ModelConfig& out) {
  if (json_has(config, "bos_token_id")) out.bos = json_int(config, "bos_token_id", where);
  if (!json_has(config, "eos_token_id")) return;
  const Json& eos = config.at("eos_token_id");
  if (!eos.is_array()) {
    out.eos.push_back(json_int(config, "eos_token_id", where));
    return;
  }
  for (const Json& id : eos) {
    if (!id.is_number_integer()) throw Error(ErrorKind::failed, "'eos_token_id' must hold integers", where);
    out.eos.push_back(id.get<int64_t>());
  }
}

void parse_windows(const Json& config, const std::string& where, int64_t from_layer, ModelConfig& out) {
  out.window.assign(static_cast<size_t>(out.layers), 0);
  if (!json_has(config, "sliding_window")) return;
  const int64_t window = config_size(config, "sliding_window", where);
  const bool typed = json_has(config, "layer_types");
  if (typed &&
      (!config.at("layer_types").is_array() || config.at("layer_types").size() != out.window.size())) {
    throw Error(ErrorKind::failed, "'layer_types' must name every layer", where);
  }
  for (size_t i = 0; i < out.window.size(); ++i) {
    const bool slides =
        typed ? config.at("layer_types")[i] == "sliding_attention" : static_cast<int64_t>(i) >= from_layer;
    if (slides) out.window[i] = window;
  }
}

ModelConfig parse_llama_family(const Json& config, const std::string& where) {
  ModelConfig out;
  out.architecture = json_string(config, "model_type", where);
  out.vocab = config_size(config, "vocab_size", where);
  out.hidden = config_size(config, "hidden_size", where);
  out.intermediate = config_size(config, "intermediate_size", where);
  out.layers = config_size(config, "num_hidden_layers", where);
  out.heads = config_size(config, "num_attention_heads", where);
  out.kv_heads = config_size(config, "num_key_value_heads", where, out.heads);
  if (out.layers > 100000) throw Error(ErrorKind::failed, "'num_hidden_layers' is absurdly large", where);
  if (out.heads % out.kv_heads != 0)
    throw Error(ErrorKind::failed, "'num_key_value_heads' does not divide 'num_attention_heads'", where);
  if (!json_has(config, "head_dim") && out.hidden % out.heads != 0) {
    throw Error(ErrorKind::failed,
                "'num_attention_heads' does not divide 'hidden_size' and there is no 'head_dim'", where);
  }
  out.head_dim = config_size(config, "head_dim", where, std::max<int64_t>(1, out.hidden / out.heads));
  if (out.head_dim % 2 != 0)
    throw Error(ErrorKind::unsupported, "an odd 'head_dim' cannot be rotated", where);
  // A table of that length is made below.
  if (out.head_dim > 65536) throw Error(ErrorKind::failed, "'head_dim' is absurdly large", where);
  out.max_positions = config_size(config, "max_position_embeddings", where, 2048);
  out.norm_eps = json_number(config, "rms_norm_eps", where, 1e-6);
  out.activation = parse_activation(json_string(config, "hidden_act", where, "silu"), where);
  out.attention_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(out.head_dim)));
  out.rope = parse_rope(config, where, out.head_dim, out.max_positions);
  out.window.assign(static_cast<size_t>(out.layers), 0);
  out.tied_embeddings = json_bool(config, "tie_word_embeddings", where, false);
  out.attention_bias = json_bool(config, "attention_bias", where, false);
  out.mlp_bias = json_bool(config, "mlp_bias", where, false);
  parse_special_ids(config, where, out);
  return out;
}

}  // namespace qwb
