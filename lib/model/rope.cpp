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

// transformers' default kind turns whole heads whatever the factor says; the scaled ones would turn
// a part, which its models of these families cannot.
void check_partial(const Json& config, const RopeFields& fields, int64_t head_dim) {
  const Json& p = fields.parameters;
  const Json factor = p.contains("partial_rotary_factor")         ? p["partial_rotary_factor"]
                      : json_has(config, "partial_rotary_factor") ? config["partial_rotary_factor"]
                                                                  : Json(1.0);
  if (!factor.is_number())
    throw Error(ErrorKind::failed, "'partial_rotary_factor' must be a number", fields.where);
  if (static_cast<int64_t>(static_cast<double>(head_dim) * factor.get<double>()) != head_dim)
    throw Error(ErrorKind::unsupported, "a partial rotary embedding", fields.where);
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
                     double theta) {
  // transformers 5 takes rope_scaling, which users add as model cards advise, for all of
  // rope_parameters.
  const bool scaling = config.contains("rope_scaling") && is_true(config["rope_scaling"]);
  Json result = scaling                               ? config["rope_scaling"]
                : json_has(config, "rope_parameters") ? config["rope_parameters"]
                                                      : Json::object();
  if (!result.is_object())
    throw Error(ErrorKind::failed, "rope parameters must be an object", where);
  if (!result.contains("rope_theta"))
    result["rope_theta"] = config.contains("rope_theta") ? config["rope_theta"] : Json(theta);
  if (!result.contains("rope_type"))
    result["rope_type"] = result.contains("type") ? result["type"] : "default";
  const std::string kind = kind_of(result, where);
  if (kind != "llama3" && kind != "yarn" && kind != "longrope") return result;
  if (config.contains("original_max_position_embeddings")) {
    result["original_max_position_embeddings"] = config["original_max_position_embeddings"];
  } else if (!result.contains("original_max_position_embeddings")) {
    result["original_max_position_embeddings"] = max_positions;
  }
  return result;
}

}  // namespace

Rope parse_rope(const Json& config, const std::string& where, int64_t head_dim,
                int64_t max_positions, double default_theta) {
  RopeFields fields{rope_parameters(config, where, max_positions, default_theta), where};
  const double theta = fields.number("rope_theta");
  const std::string kind = kind_of(fields.parameters, where);
  if (!(theta > 1)) throw Error(ErrorKind::failed, "'rope_theta' must be above 1", where);
  if (kind != "default") check_partial(config, fields, head_dim);
  const auto trained = [&] { return fields.number("original_max_position_embeddings"); };

  std::vector<double> frequencies;
  for (int64_t k = 0; k < head_dim / 2; ++k) {
    frequencies.push_back(
        std::pow(theta, -2.0 * static_cast<double>(k) / static_cast<double>(head_dim)));
  }
  Rope rope;
  rope.parameters = fields.parameters;
  if (kind == "linear") {
    scale_linear(fields, frequencies);
  } else if (kind == "llama3") {
    scale_llama3(fields, trained(), frequencies);
  } else if (kind == "yarn") {
    rope.attention_factor =
        static_cast<float>(scale_yarn(fields, theta, trained(), static_cast<double>(max_positions),
                                      static_cast<double>(head_dim), frequencies));
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
