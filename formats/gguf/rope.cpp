#include "formats/gguf/rope.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "lib/base/error.h"

namespace qwb {
namespace {

constexpr auto kRopeKeys = std::to_array<std::string_view>(
    {"rope.freq_base", "rope.scale_linear", "rope.scaling.attn_factor", "rope.scaling.factor",
     "rope.scaling.original_context_length", "rope.scaling.type", "rope.scaling.yarn_beta_fast",
     "rope.scaling.yarn_beta_slow"});

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

}  // namespace

std::span<const std::string_view> gguf_rope_keys() {
  return kRopeKeys;
}

Json gguf_rope_parameters(const GgufKeyReader& keys, const GgufFile& file) {
  const double theta = keys.number("rope.freq_base", 10000);
  // A factor without a type is linear, in llama.cpp too; so is one of 0 or 1 none.
  const double factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1));
  const bool scaled = factor != 0 && factor != 1;
  const std::string kind = keys.text("rope.scaling.type", scaled ? "linear" : "none");
  if (kind != "yarn" && keys.number("rope.scaling.attn_factor", 1) != 1)
    throw Error(ErrorKind::unsupported,
                "the key '" + keys.key("rope.scaling.attn_factor") + "' without scaling by yarn",
                keys.where, "llama.cpp scales the attention by it");
  if (const GgufTensor* divisors = file.find("rope_freqs.weight")) {
    if (kind != "none")
      throw Error(ErrorKind::unsupported, "rope scaling '" + kind + "' beside 'rope_freqs.weight'",
                  keys.where);
    const int64_t head_dim = keys.head_dim();
    if (divisors->type != GgmlType::f32 || divisors->shape != Shape{head_dim / 2})
      throw Error(ErrorKind::failed,
                  "'rope_freqs.weight' must be F32 [" + std::to_string(head_dim / 2) + "]",
                  keys.where);
    const TensorView view{DType::f32, divisors->shape, file.bytes(*divisors)};
    return llama3_parameters(read_floats(view, "rope_freqs.weight"), theta,
                             keys.number("rope.scaling.original_context_length", 0), keys.where);
  }
  Json rope = {{"rope_type", kind == "none" ? "default" : kind}, {"rope_theta", theta}};
  if (kind == "none") return rope;
  if (kind == "linear" && !scaled) return {{"rope_type", "default"}, {"rope_theta", theta}};
  rope["factor"] = factor;
  if (kind == "linear") return rope;
  if (kind != "yarn")
    throw Error(ErrorKind::unsupported, "rope scaling '" + kind + "' is not known", keys.where,
                "known: none, linear, yarn, and llama3 by rope_freqs.weight");
  rope["original_max_position_embeddings"] =
      keys.integer("rope.scaling.original_context_length", keys.integer("context_length"));
  if (keys.has("rope.scaling.yarn_beta_fast"))
    rope["beta_fast"] = keys.number("rope.scaling.yarn_beta_fast");
  if (keys.has("rope.scaling.yarn_beta_slow"))
    rope["beta_slow"] = keys.number("rope.scaling.yarn_beta_slow");
  // llama.cpp multiplies its own 1 + 0.1 ln(factor) by this.
  if (keys.has("rope.scaling.attn_factor"))
    rope["attention_factor"] =
        keys.metadata.number(keys.key("rope.scaling.attn_factor"), keys.where) *
        (0.1 * std::log(factor) + 1);
  return rope;
}

void add_gguf_rope(const ModelConfig& c, const std::string& where, const std::string& prefix,
                   GgufMetadata& metadata) {
  const Json& rope = c.rope.parameters;
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

std::vector<float> gguf_rope_divisors(const ModelConfig& c, const std::string& where) {
  const Json& rope = c.rope.parameters;
  if (rope.is_null()) return {};
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

}  // namespace qwb
