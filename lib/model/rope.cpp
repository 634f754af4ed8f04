#include "lib/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "lib/base/error.h"

namespace qwb {
namespace {

// As Python takes a value for true.
bool is_true(const Json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  return value.is_string() ? !value.get_ref<const std::string&>().empty() : !value.empty();
}

struct RopeFields {
  Json parameters = Json::object();  // rope_parameters or rope_scaling
  std::string where;

  double number(const std::string& key) const { return json_number(parameters, key, where); }
  double number(const std::string& key, double fallback) const {
    return json_number(parameters, key, where, fallback);
  }
  // Python's `or`: null and 0 count as absent.
  double or_default(const std::string& key, double fallback) const {
    const double given = number(key, 0);
    return given != 0 ? given : fallback;
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
double scale_yarn(const RopeFields& fields, double theta, double trained, double positions,
                  double head_dim, std::vector<double>& frequencies) {
  if (!fields.parameters.contains("factor"))
    throw Error(ErrorKind::failed, "'factor' is missing in the yarn scaling", fields.where);
  const double factor = fields.number("factor", positions / trained);
  const auto correction = [&](double rotations) {
    return head_dim * std::log(trained / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(theta));
  };
  double low = correction(fields.or_default("beta_fast", 32)),
         high = correction(fields.or_default("beta_slow", 1));
  if (!fields.parameters.contains("truncate") || is_true(fields.parameters["truncate"])) {
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
  if (mscale != 0 && all_dim != 0)
    return yarn_mscale(factor, mscale) / yarn_mscale(factor, all_dim);
  return yarn_mscale(factor, 1);
}

// How many values of a head turn. Of families that turn whole heads transformers' default kind does
// so whatever the factor says; the scaled ones would turn a part, which its models cannot.
int64_t turned_values(const Json& config, const RopeFields& fields, int64_t head_dim,
                      const RopeRules& rules, bool is_default) {
  if (rules.partial == 0 && is_default) return head_dim;
  const Json& p = fields.parameters;
  const Json factor = p.contains("partial_rotary_factor") ? p["partial_rotary_factor"]
                      : json_has(config, "partial_rotary_factor")
                          ? config["partial_rotary_factor"]
                          : Json(rules.partial > 0 ? rules.partial : 1.0);
  if (!factor.is_number())
    throw Error(ErrorKind::failed, "'partial_rotary_factor' must be a number", fields.where);
  const double values = static_cast<double>(head_dim) * factor.get<double>();
  if (!(values >= 0 && values < static_cast<double>(head_dim) + 1))
    throw Error(ErrorKind::failed, "'partial_rotary_factor' must be between 0 and 1", fields.where);
  const auto turned = static_cast<int64_t>(values);
  if (turned != head_dim && rules.partial == 0)
    throw Error(ErrorKind::unsupported, "a partial rotary embedding", fields.where);
  if (turned < 2 || turned % 2 != 0) {
    throw Error(ErrorKind::unsupported,
                "a rotary embedding of " + std::to_string(turned) + " values of a head",
                fields.where);
  }
  return turned;
}

std::vector<double> factor_list(const RopeFields& fields, const char* key, size_t count) {
  const Json list = fields.parameters.value(key, Json());
  std::vector<double> factors;
  if (!list.is_array() || list.size() != count) {
    throw Error(ErrorKind::failed,
                std::string("'") + key + "' must hold " + std::to_string(count) + " numbers",
                fields.where);
  }
  for (const Json& factor : list) {
    if (!factor.is_number() || !(factor.get<double>() > 0)) {
      throw Error(ErrorKind::failed, std::string("'") + key + "' must hold positive numbers",
                  fields.where);
    }
    factors.push_back(factor.get<double>());
  }
  return factors;
}

// LongRoPE: arXiv 2402.13753. Texts up to the trained length have the short factors; transformers
// takes the long ones for all of a longer text, so that the first token would change with the last.
void scale_longrope(const RopeFields& fields, double trained, int64_t max_positions, Rope& rope,
                    std::vector<double>& frequencies) {
  const std::vector<double> shorter = factor_list(fields, "short_factor", frequencies.size());
  const std::vector<double> longer = factor_list(fields, "long_factor", frequencies.size());
  if (!(trained > 1)) {
    throw Error(ErrorKind::failed, "'original_max_position_embeddings' must be above 1",
                fields.where);
  }
  for (size_t k = 0; k < frequencies.size(); ++k) frequencies[k] /= shorter[k];
  if (shorter != longer) rope.end = static_cast<int64_t>(trained);
  const double factor = json_has(fields.parameters, "factor")
                            ? fields.number("factor")
                            : static_cast<double>(max_positions) / trained;
  double scale = factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(trained));
  if (json_has(fields.parameters, "attention_factor")) scale = fields.number("attention_factor");
  rope.attention_factor = static_cast<float>(scale);
}

std::string kind_of(const Json& parameters, const std::string& where) {
  if (!parameters["rope_type"].is_string())
    throw Error(ErrorKind::failed,
                "'rope_type' must be a text, not " + parameters["rope_type"].dump(), where);
  return parameters["rope_type"].get<std::string>();
}

// In the form of transformers 5: with rope_type, rope_theta and, for scaled kinds that need it,
// original_max_position_embeddings filled in.
Json rope_parameters(const Json& config, const std::string& where, int64_t max_positions,
                     const RopeRules& rules) {
  // transformers 5 takes rope_scaling, which users add as model cards advise, for all of
  // rope_parameters.
  const bool scaling = config.contains("rope_scaling") && is_true(config["rope_scaling"]);
  Json result = scaling                               ? config["rope_scaling"]
                : json_has(config, "rope_parameters") ? config["rope_parameters"]
                                                      : Json::object();
  if (!result.is_object())
    throw Error(ErrorKind::failed, "rope parameters must be an object", where);
  if (!result.contains("rope_theta"))
    result["rope_theta"] = config.contains("rope_theta") ? config["rope_theta"] : Json(rules.theta);
  if (!result.contains("rope_type"))
    result["rope_type"] = result.contains("type") ? result["type"] : "default";
  std::string kind = kind_of(result, where);
  if (rules.longrope_from > 0 && (kind == "su" || kind == "yarn"))
    result["rope_type"] = kind = "longrope";
  if (kind != "llama3" && kind != "yarn" && kind != "longrope") return result;
  if (config.contains("original_max_position_embeddings")) {
    result["original_max_position_embeddings"] = config["original_max_position_embeddings"];
  } else if (rules.longrope_from > 0) {
    result["original_max_position_embeddings"] = rules.longrope_from;
  } else if (!result.contains("original_max_position_embeddings")) {
    result["original_max_position_embeddings"] = max_positions;
  }
  return result;
}

}  // namespace

Rope parse_rope(const Json& config, const std::string& where, int64_t head_dim,
                int64_t max_positions, double theta) {
  return parse_rope(config, where, head_dim, max_positions, RopeRules{.theta = theta});
}

Rope parse_rope(const Json& config, const std::string& where, int64_t head_dim,
                int64_t max_positions, const RopeRules& rules) {
  RopeFields fields{rope_parameters(config, where, max_positions, rules), where};
  const double theta = fields.number("rope_theta");
  const std::string kind = kind_of(fields.parameters, where);
  if (!(theta > 1)) throw Error(ErrorKind::failed, "'rope_theta' must be above 1", where);
  const int64_t turned = turned_values(config, fields, head_dim, rules, kind == "default");
  const auto trained = [&] { return fields.number("original_max_position_embeddings"); };

  std::vector<double> frequencies;
  for (int64_t k = 0; k < turned / 2; ++k) {
    frequencies.push_back(
        std::pow(theta, -2.0 * static_cast<double>(k) / static_cast<double>(turned)));
  }
  Rope rope;
  rope.pairs = rules.pairs;
  rope.parameters = fields.parameters;
  const bool only_longrope = rules.longrope_from > 0;
  if (kind == "longrope" && only_longrope) {
    scale_longrope(fields, trained(), max_positions, rope, frequencies);
  } else if (only_longrope && kind != "default") {
    throw Error(ErrorKind::unsupported, "rope type '" + kind + "' of this family is not known",
                where, "known: default, longrope");
  } else if (kind == "linear") {
    scale_linear(fields, frequencies);
  } else if (kind == "llama3") {
    scale_llama3(fields, trained(), frequencies);
  } else if (kind == "yarn") {
    rope.attention_factor =
        static_cast<float>(scale_yarn(fields, theta, trained(), static_cast<double>(max_positions),
                                      static_cast<double>(turned), frequencies));
  } else if (kind != "default") {
    throw Error(ErrorKind::unsupported, "rope type '" + kind + "' is not known", where,
                "known: default, linear, llama3, yarn");
  }
  for (const double f : frequencies) {
    if (!std::isfinite(f) || f < 0)
      throw Error(ErrorKind::failed, "rope parameters give frequencies that are not numbers",
                  where);
    rope.frequencies.push_back(static_cast<float>(f));
  }
  return rope;
}

}  // namespace qwb
