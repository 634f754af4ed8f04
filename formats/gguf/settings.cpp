// Settings: a file's keys from config.json, and the llama3 scaling, which GGUF keeps as a tensor of
// divisors.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "formats/gguf/architecture.h"
#include "lib/model/config.h"

namespace qwb {
namespace {

double wavelength(double theta, int64_t index, int64_t half) {
  return 2 * std::numbers::pi *
         std::pow(theta, static_cast<double>(index) / static_cast<double>(half));
}

struct Llama3Scaling {
  double factor, low, high, trained;

  double divisor(double wave) const {
    if (wave < trained / high) return 1;
    if (wave > trained / low) return factor;
    const double smooth = (trained / wave - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  }
  bool gives(const std::vector<float>& divisors, double theta) const {
    if (!(factor > 0 && low > 0 && high > low && trained > 0)) return false;
    const auto half = static_cast<int64_t>(divisors.size());
    for (int64_t i = 0; i < half; ++i) {
      const double found = divisors[i];
      if (!(std::abs(divisor(wavelength(theta, i, half)) - found) <= 2e-5 * std::abs(found)))
        return false;
    }
    return true;
  }
};

// Between the two bounds the weight of the unscaled frequency is a line over 1 / wavelength, a /
// wave - b with a = trained / (high - low) and b = low / (high - low): two divisors tell a and b,
// and low is taken as 1, as in every published model.
std::optional<Llama3Scaling> solve(const std::vector<float>& divisors, double theta,
                                   double factor) {
  const auto half = static_cast<int64_t>(divisors.size());
  std::vector<std::pair<double, double>> points;  // 1 / wavelength, smooth
  for (int64_t i = 0; i < half; ++i) {
    const double d = divisors[i];
    if (d > 1.0001 && d < factor * 0.9999)
      points.emplace_back(1 / wavelength(theta, i, half), (1 / d - 1 / factor) / (1 - 1 / factor));
  }
  if (points.size() < 2) return std::nullopt;
  const auto [x0, y0] = points.front();
  const auto [x1, y1] = points.back();
  const double a = (y1 - y0) / (x1 - x0), b = a * x0 - y0;
  if (!(b > 0)) return std::nullopt;
  return Llama3Scaling{factor, 1, std::round((1 + 1 / b) * 1000) / 1000, std::round(a / b)};
}

void add_rope(const Json& config, const ModelConfig& c, const std::string& where,
              const std::string& prefix, GgufMetadata& metadata) {
  const Json rope = rope_parameters(config, where, c.max_positions);
  const std::string type = json_string(rope, "rope_type", where);
  metadata.add(prefix + "rope.freq_base",
               GgufValue::of_f32(json_number(rope, "rope_theta", where)));
  if (type == "default") return;
  if (type == "llama3") {  // a tensor; the length tells the exact parameters
    metadata.add(prefix + "rope.scaling.original_context_length",
                 GgufValue::of_u32(json_int(rope, "original_max_position_embeddings", where)));
    return;
  }
  if (type != "linear" && type != "yarn")
    throw Error(ErrorKind::unsupported, "rope type '" + type + "' has no place in GGUF", where);
  const double trained = json_number(rope, "original_max_position_embeddings", where, 1);
  const double factor =
      json_number(rope, "factor", where, static_cast<double>(c.max_positions) / trained);
  metadata.add(prefix + "rope.scaling.type", GgufValue::of_string(type));
  metadata.add(prefix + "rope.scaling.factor", GgufValue::of_f32(factor));
  if (type == "linear") return;
  metadata.add(prefix + "rope.scaling.original_context_length",
               GgufValue::of_u32(json_int(rope, "original_max_position_embeddings", where)));
  for (const auto& [from, to] :
       {std::pair{"beta_fast", "yarn_beta_fast"}, {"beta_slow", "yarn_beta_slow"}}) {
    if (json_number(rope, from, where, 0) != 0)
      metadata.add(prefix + "rope.scaling." + to,
                   GgufValue::of_f32(json_number(rope, from, where)));
  }
  const bool scales = json_has(rope, "mscale") && json_has(rope, "mscale_all_dim");
  if (scales || (rope.contains("truncate") && rope["truncate"] != Json(true)))
    throw Error(ErrorKind::unsupported, "this kind of yarn scaling has no place in GGUF", where);
  if (json_has(rope, "attention_factor"))
    metadata.add(prefix + "rope.scaling.attn_factor",
                 GgufValue::of_f32(json_number(rope, "attention_factor", where) /
                                   (0.1 * std::log(factor) + 1)));
}

void refuse(bool wrong, const std::string& what, const std::string& where) {
  if (wrong)
    throw Error(ErrorKind::unsupported, what + " has no place in GGUF", where,
                "llama.cpp would compute something else");
}

void add_gpt2(const Json& config, const ModelConfig& c, const std::string& where,
              GgufMetadata& metadata) {
  refuse(c.activation != Activation::gelu_tanh, "this activation", where);
  refuse(!c.layer_scale.empty(), "scale_attn_by_inverse_layer_idx", where);
  refuse(!json_bool(config, "scale_attn_weights", where, true), "attention without its scale",
         where);
  metadata.add("gpt2.attention.layer_norm_epsilon", GgufValue::of_f32(c.norm_eps));
}

void add_llama(const Json& config, const ModelConfig& c, const std::string& where,
               GgufMetadata& metadata, const Context& context) {
  const std::string architecture = gguf_architecture(config, where), prefix = architecture + ".";
  refuse(c.activation != Activation::silu, "this activation", where);
  metadata.add(prefix + "attention.head_count_kv", GgufValue::of_u32(c.kv_heads));
  metadata.add(prefix + "attention.layer_norm_rms_epsilon", GgufValue::of_f32(c.norm_eps));
  metadata.add(prefix + "attention.key_length", GgufValue::of_u32(c.head_dim));
  metadata.add(prefix + "attention.value_length", GgufValue::of_u32(c.head_dim));
  metadata.add(prefix + "rope.dimension_count", GgufValue::of_u32(c.head_dim));
  metadata.add(prefix + "vocab_size", GgufValue::of_u32(c.vocab));
  add_rope(config, c, where, prefix, metadata);
  const int64_t window = c.window.empty() ? 0 : *std::max_element(c.window.begin(), c.window.end());
  if (window == 0) return;
  if (json_string(config, "model_type", where) == "mistral")
    metadata.add(prefix + "attention.sliding_window", GgufValue::of_u32(window));
  if (window < c.max_positions)
    context.progress->note("llama.cpp does not apply the sliding window of " +
                           std::to_string(window) + " tokens: longer texts will differ there");
}

}  // namespace

std::string gguf_architecture(const Json& config, const std::string& where) {
  std::string type = json_string(config, "model_type", where);
  if (type == "mistral") return "llama";
  if (type == "llama" || type == "qwen2" || type == "qwen3" || type == "gpt2") return type;
  throw Error(ErrorKind::unsupported, "the architecture '" + type + "' cannot be written as GGUF",
              where, "these can: llama, mistral, qwen2, qwen3, gpt2");
}

void add_gguf_settings(const Json& config, const std::string& where, GgufMetadata& metadata,
                       const Context& context) {
  const ModelConfig c = parse_config(config, where);
  const std::string prefix = gguf_architecture(config, where) + ".";
  metadata.add(prefix + "block_count", GgufValue::of_u32(c.layers));
  metadata.add(prefix + "context_length", GgufValue::of_u32(c.max_positions));
  metadata.add(prefix + "embedding_length", GgufValue::of_u32(c.hidden));
  metadata.add(prefix + "feed_forward_length", GgufValue::of_u32(c.intermediate));
  metadata.add(prefix + "attention.head_count", GgufValue::of_u32(c.heads));
  prefix == "gpt2." ? add_gpt2(config, c, where, metadata)
                    : add_llama(config, c, where, metadata, context);
}

std::vector<float> gguf_rope_divisors(const Json& config, const std::string& where) {
  const ModelConfig c = parse_config(config, where);
  if (c.rope.frequencies.empty()) return {};
  const Json rope = rope_parameters(config, where, c.max_positions);
  if (json_string(rope, "rope_type", where) != "llama3") return {};
  const Llama3Scaling scaling{json_number(rope, "factor", where),
                              json_number(rope, "low_freq_factor", where),
                              json_number(rope, "high_freq_factor", where),
                              json_number(rope, "original_max_position_embeddings", where)};
  const double theta = json_number(rope, "rope_theta", where);
  const int64_t half = c.head_dim / 2;
  std::vector<float> divisors;
  for (int64_t i = 0; i < half; ++i)
    divisors.push_back(static_cast<float>(scaling.divisor(wavelength(theta, i, half))));
  return divisors;
}

Json llama3_parameters(const std::vector<float>& divisors, double theta, double trained,
                       const std::string& where) {
  const double factor = divisors.empty() ? 0 : *std::max_element(divisors.begin(), divisors.end());
  std::vector<Llama3Scaling> candidates = {{factor, 1, 4, 8192}};  // Llama 3.1 and 3.2
  if (trained > 0) candidates.insert(candidates.begin(), {factor, 1, 4, trained});
  // Too few divisors lie between the bounds to tell both: the usual bounds, and a round length.
  for (int64_t length = 16; length <= 1 << 20; length *= 2)
    candidates.push_back({factor, 1, 4, static_cast<double>(length)});
  if (const auto solved = solve(divisors, theta, factor)) candidates.push_back(*solved);
  for (const Llama3Scaling& scaling : candidates) {
    if (!scaling.gives(divisors, theta)) continue;
    return {{"rope_type", "llama3"},
            {"rope_theta", theta},
            {"factor", scaling.factor},
            {"low_freq_factor", scaling.low},
            {"high_freq_factor", scaling.high},
            {"original_max_position_embeddings", static_cast<int64_t>(scaling.trained)}};
  }
  throw Error(ErrorKind::unsupported, "'rope_freqs.weight' is not a llama3 scaling", where);
}

}  // namespace qwb
