// Frequencies of the rotary embedding. Formulas: transformers' modeling_rope_utils.py; llama3 from Meta's
// Llama 3.1; YaRN: arXiv 2309.00071.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "lib/base/error.h"
#include "lib/model/config_fields.h"

namespace qwb {
namespace {

struct RopeFields {
  Json parameters = Json::object();  // rope_parameters or rope_scaling
  std::string where;

  double number(const std::string& key) const { return json_number(parameters, key, where); }
  double number(const std::string& key, double fallback) const {
    return json_number(parameters, key, where, fallback);
  }
};

void scale_linear(const RopeFields& fields, std::vector<double>& frequencies) {
  const double factor = fields.number("factor");
  for (double& f : frequencies) f /= factor;
}

void scale_llama3(const RopeFields& fields, double trained, std::vector<double>& frequencies) {
  const double factor = fields.number("factor"), low = fields.number("low_freq_factor"),
               high = fields.number("high_freq_factor");
  for (double& f : frequencies) {
    const double wavelength = 2 * std::numbers::pi / f;
    if (wavelength < trained / high) continue;
    if (wavelength > trained / low) {
      f /= factor;
      continue;
    }
    const double smooth = (trained / wavelength - low) / (high - low);
    f = (1 - smooth) * f / factor + smooth * f;
  }
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

// Returns the factor on cos and sin.
double scale_yarn(const RopeFields& fields, double theta, double trained, double head_dim,
                  std::vector<double>& frequencies) {
  const double factor = fields.number("factor");
  const auto correction = [&](double rotations) {
    return head_dim * std::log(trained / (rotations * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  double low = correction(fields.number("beta_fast", 32)), high = correction(fields.number("beta_slow", 1));
  if (json_bool(fields.parameters, "truncate", fields.where, true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, head_dim - 1);
  if (low == high) high += 0.001;
  for (size_t k = 0; k < frequencies.size(); ++k) {
    const double ramp = std::clamp((static_cast<double>(k) - low) / (high - low), 0.0, 1.0);
    frequencies[k] = ramp * frequencies[k] / factor + (1 - ramp) * frequencies[k];
  }
  if (json_has(fields.parameters, "attention_factor")) return fields.number("attention_factor");
  const double mscale = fields.number("mscale", 0), all_dim = fields.number("mscale_all_dim", 0);
  if (mscale != 0 && all_dim != 0) return yarn_mscale(factor, mscale) / yarn_mscale(factor, all_dim);
  return yarn_mscale(factor, 1);
}

}  // namespace

Rope parse_rope(const Json& config, const std::string& where, int64_t head_dim, int64_t max_positions) {
  RopeFields fields;
  fields.where = where;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (json_has(config, key)) fields.parameters = config.at(key);
  }
  if (!fields.parameters.is_object())
    throw Error(ErrorKind::failed, "rope parameters must be an object", where);
  const double theta = fields.number("rope_theta", json_number(config, "rope_theta", where, 10000.0));
  const std::string kind = json_string(fields.parameters, "rope_type", where,
                                       json_string(fields.parameters, "type", where, "default"));
  if (!(theta > 1)) throw Error(ErrorKind::failed, "'rope_theta' must be above 1", where);
  if (fields.number("partial_rotary_factor", json_number(config, "partial_rotary_factor", where, 1.0)) !=
      1.0) {
    throw Error(ErrorKind::unsupported, "a partial rotary embedding", where);
  }
  const double trained = fields.number(
      "original_max_position_embeddings",
      json_number(config, "original_max_position_embeddings", where, static_cast<double>(max_positions)));

  std::vector<double> frequencies;
  for (int64_t k = 0; k < head_dim / 2; ++k) {
    frequencies.push_back(std::pow(theta, -2.0 * static_cast<double>(k) / static_cast<double>(head_dim)));
  }
  Rope rope;
  if (kind == "linear") {
    scale_linear(fields, frequencies);
  } else if (kind == "llama3") {
    scale_llama3(fields, trained, frequencies);
  } else if (kind == "yarn") {
    rope.attention_factor =
        static_cast<float>(scale_yarn(fields, theta, trained, static_cast<double>(head_dim), frequencies));
  } else if (kind != "default") {
    throw Error(ErrorKind::unsupported, "rope type '" + kind + "' is not known", where,
                "known: default, linear, llama3, yarn");
  }
  for (const double f : frequencies) {
    if (!std::isfinite(f) || f < 0)
      throw Error(ErrorKind::failed, "rope parameters give frequencies that are not numbers", where);
    rope.frequencies.push_back(static_cast<float>(f));
  }
  return rope;
}

}  // namespace qwb
