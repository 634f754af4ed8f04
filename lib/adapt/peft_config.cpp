#include "lib/adapt/peft_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/tokenizer/regex.h"

namespace qwb {
namespace {

constexpr std::array<std::string_view, 19> kReadFields = {"peft_type",
                                                          "task_type",
                                                          "base_model_name_or_path",
                                                          "revision",
                                                          "r",
                                                          "lora_alpha",
                                                          "lora_dropout",
                                                          "use_rslora",
                                                          "rank_pattern",
                                                          "alpha_pattern",
                                                          "target_modules",
                                                          "exclude_modules",
                                                          "bias",
                                                          "fan_in_fan_out",
                                                          "layers_to_transform",
                                                          "layers_pattern",
                                                          "modules_to_save",
                                                          "init_lora_weights",
                                                          "inference_mode"};
// What made the file, and settings of variants that are off unless another field turns them on.
constexpr std::array<std::string_view, 6> kWithoutEffect = {"peft_version",  "auto_mapping",
                                                            "megatron_core", "qalora_group_size",
                                                            "loftq_config",  "eva_config"};

// Python's re.fullmatch.
bool matches_whole(const std::string& pattern, const std::string& text) {
  return tokenizer::Regex("\\A(?:" + pattern + ")\\z").find(text, 0).first != std::string::npos;
}

bool is_suffix_of(const std::string& suffix, const std::string& path) {
  return path == suffix || path.ends_with("." + suffix);
}

std::vector<std::string> strings_of(const Json& value, const std::string& field,
                                    const std::string& where) {
  std::vector<std::string> all;
  for (const Json& one : value.is_array() ? value : Json::array({value})) {
    if (!one.is_string())
      throw Error(ErrorKind::failed, "'" + field + "' is no list of names", where);
    all.push_back(one.get<std::string>());
  }
  return all;
}

[[noreturn]] void refuse_field(const std::string& field, const Json& value,
                               const std::string& where, const std::string& advice = {}) {
  throw Error(ErrorKind::unsupported,
              "adapters with " + field + " = " + value.dump().substr(0, 60) + " are not read",
              where, advice);
}

// Whether the value turns nothing on.
bool is_off(const Json& value) {
  return value.is_null() || value == false ||
         ((value.is_array() || value.is_object() || value.is_string()) && value.empty());
}

void check_initialisation(const Json& config, const std::string& where) {
  const auto it = config.find("init_lora_weights");
  if (it == config.end() || it->is_null() || it->is_boolean()) return;
  const std::string name = it->is_string() ? lower_case(it->get<std::string>()) : "?";
  // These leave the base as it was.
  for (const char* harmless : {"gaussian", "eva", "orthogonal", "mica"}) {
    if (name == harmless) return;
  }
  refuse_field("init_lora_weights", *it, where,
               "it was trained beside a changed base; let PEFT save it with "
               "path_initial_model_for_weight_conversion");
}

template <class Number>
std::vector<std::pair<std::string, Number>> pattern_of(const Json& config, const std::string& field,
                                                       const std::string& where) {
  std::vector<std::pair<std::string, Number>> all;
  if (!json_has(config, field)) return all;
  const Json& patterns = config.at(field);
  if (!patterns.is_object()) throw Error(ErrorKind::failed, "'" + field + "' is no object", where);
  for (const auto& [key, value] : patterns.items()) {
    if (!value.is_number() || !(value.template get<double>() > 0))
      throw Error(ErrorKind::failed, "'" + field + "' has no positive number for " + key, where);
    all.emplace_back(key, value.template get<Number>());
  }
  return all;
}

// The first pattern that matches wins, as in PEFT.
template <class Number>
Number by_pattern(const std::vector<std::pair<std::string, Number>>& patterns,
                  const std::string& path, Number otherwise) {
  for (const auto& [key, value] : patterns) {
    if (matches_whole("(.*\\.)?(" + key + ")", path)) return value;
  }
  return otherwise;
}

}  // namespace

PeftConfig::PeftConfig(const Json& config, std::string where) : where_(std::move(where)) {
  if (!config.is_object()) throw Error(ErrorKind::failed, "is no object", where_);
  const std::string type = json_string(config, "peft_type", where_);
  if (!same_name(type, "LORA")) refuse_field("peft_type", type, where_);
  const std::string task = json_string(config, "task_type", where_, "CAUSAL_LM");
  if (!same_name(task, "CAUSAL_LM")) refuse_field("task_type", task, where_);
  check_initialisation(config, where_);
  refuse_unknown(config);
  base_ = json_string(config, "base_model_name_or_path", where_, "");
  revision_ = json_string(config, "revision", where_, "");
  rank_ = json_int(config, "r", where_, 8);
  alpha_ = json_number(config, "lora_alpha", where_, 8);
  dropout_ = json_number(config, "lora_dropout", where_, 0);
  rslora_ = json_bool(config, "use_rslora", where_, false);
  json_bool(config, "fan_in_fan_out", where_, false);  // the base tells how it is stored
  bias_ = json_string(config, "bias", where_, "none");
  if (bias_ != "none" && bias_ != "all" && bias_ != "lora_only")
    refuse_field("bias", bias_, where_);
  if (rank_ < 1) throw Error(ErrorKind::failed, "'r' is not positive", where_);
  if (!std::isfinite(alpha_)) throw Error(ErrorKind::failed, "'lora_alpha' is not finite", where_);
  ranks_ = pattern_of<int64_t>(config, "rank_pattern", where_);
  alphas_ = pattern_of<double>(config, "alpha_pattern", where_);
  if (json_has(config, "modules_to_save"))
    saved_ = strings_of(config.at("modules_to_save"), "modules_to_save", where_);
  read_targets(config);
  read_layers(config);
}

void PeftConfig::refuse_unknown(const Json& config) const {
  for (const auto& [key, value] : config.items()) {
    const auto is_key = [&name = key](std::string_view known) { return known == name; };
    if (std::ranges::any_of(kReadFields, is_key)) continue;
    if (std::ranges::any_of(kWithoutEffect, is_key) || is_off(value)) continue;
    refuse_field(key, value, where_);
  }
}

void PeftConfig::read_targets(const Json& config) {
  if (json_has(config, "target_modules")) {
    const Json& targets = config.at("target_modules");
    if (targets.is_string() && same_name(targets.get<std::string>(), "all-linear")) {
      kind_ = Targets::all_linear;
    } else if (targets.is_string()) {
      kind_ = Targets::regex;
      regex_ = targets.get<std::string>();
      matches_whole(regex_, "");  // says now what cannot be read
    } else {
      kind_ = Targets::list;
      targets_ = strings_of(targets, "target_modules", where_);
    }
  }
  if (!json_has(config, "exclude_modules")) return;
  const Json& exclude = config.at("exclude_modules");
  if (exclude.is_string()) {
    excluded_regex_ = exclude.get<std::string>();
  } else {
    excluded_ = strings_of(exclude, "exclude_modules", where_);
  }
}

void PeftConfig::read_layers(const Json& config) {
  if (json_has(config, "layers_pattern"))
    layer_names_ = strings_of(config.at("layers_pattern"), "layers_pattern", where_);
  if (!json_has(config, "layers_to_transform")) return;
  const Json& layers = config.at("layers_to_transform");
  std::vector<int64_t> numbers;
  for (const Json& one : layers.is_array() ? layers : Json::array({layers})) {
    if (!one.is_number_integer())
      throw Error(ErrorKind::failed, "'layers_to_transform' holds no numbers of layers", where_);
    numbers.push_back(one.get<int64_t>());
  }
  if (!numbers.empty()) layers_ = std::move(numbers);
}

int64_t PeftConfig::rank_of(const std::string& path) const {
  return by_pattern(ranks_, path, rank_);
}

double PeftConfig::alpha_of(const std::string& path) const {
  return by_pattern(alphas_, path, alpha_);
}

bool PeftConfig::excluded(const std::string& path) const {
  if (!excluded_regex_.empty() && matches_whole(excluded_regex_, path)) return true;
  return std::ranges::any_of(excluded_, [&](const auto& e) { return is_suffix_of(e, path); }) ||
         std::ranges::any_of(saved_, [&](const auto& s) { return is_suffix_of(s, path); });
}

// The number of the layer stands behind the last name of a list, ".*\.NAME\.(\d+)\.".
bool PeftConfig::in_layers(const std::string& path) const {
  if (!layers_) return true;
  const std::vector<std::string> any = {"[^.]*"};
  for (const std::string& name : layer_names_.empty() ? any : layer_names_) {
    for (size_t dot = path.rfind('.'); dot != std::string::npos && dot > 0;
         dot = path.rfind('.', dot - 1)) {
      const size_t before = path.rfind('.', dot - 1);
      if (before == std::string::npos) break;
      const std::string number = path.substr(before + 1, dot - before - 1);
      const bool digits = !number.empty() && number.size() < 10 &&
                          number.find_first_not_of("0123456789") == std::string::npos;
      if (!digits || !matches_whole(".*\\." + name, path.substr(0, before))) continue;
      return std::ranges::find(*layers_, std::stoll(number)) != layers_->end();
    }
  }
  return false;
}

std::optional<bool> PeftConfig::takes(const std::string& path, bool is_head) const {
  if (excluded(path)) return false;
  switch (kind_) {
    case Targets::untold:
      return std::nullopt;
    case Targets::all_linear:
      return !is_head;
    case Targets::regex:
      return matches_whole(regex_, path);
    case Targets::list:
      break;
  }
  if (std::ranges::find(targets_, path) != targets_.end()) return true;
  const bool named =
      std::ranges::any_of(targets_, [&](const auto& t) { return is_suffix_of(t, path); });
  return named && in_layers(path);
}

}  // namespace qwb
