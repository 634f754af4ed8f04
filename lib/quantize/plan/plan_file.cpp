// Reading plan files.
#include <algorithm>

#include "lib/base/error.h"
#include "lib/quantize/plan/module_pattern.h"
#include "lib/quantize/plan/plan.h"

namespace qwb {
namespace {

constexpr const char* kSkip = "skip";

[[noreturn]] void refuse(const std::string& what, const std::string& where,
                         const std::string& advice = {}) {
  throw Error(ErrorKind::usage, what, where, advice);
}

bool is_parameter(const std::string& name) {
  for (const auto& method : methods()) {
    for (const Parameter& parameter : method->parameters()) {
      if (parameter.name == name) return true;
    }
  }
  return false;
}

// "method" and parameters of the default or of a rule; `other` are the fields that mean something
// else.
void read_choice(const Json& entry, const std::vector<std::string>& other, std::string& method,
                 Json& given, const std::string& where) {
  method = json_has(entry, "method") ? json_string(entry, "method", where) : "";
  for (const auto& [name, value] : entry.items()) {
    if (name == "method" || std::find(other.begin(), other.end(), name) != other.end()) continue;
    if (!is_parameter(name)) {
      std::string known = "method";
      for (const std::string& field : other) known += ", " + field;
      refuse("unknown field '" + name + "'", where,
             "known: " + known + ", and the methods' parameters");
    }
    given[name] = value;
  }
  if (method == kSkip && !given.empty())
    refuse("a module that stays as it is takes no '" + given.begin().key() + "'", where);
  if (method.empty() || method == kSkip) return;
  try {
    const Method& found = find_method(method);
    // Bits are allowed everywhere where they say what the method does anyway.
    Json own = given;
    if (fixed_bits(found) == json_number(own, "bits", where, -1)) own.erase("bits");
    resolve_settings(found, own);
  } catch (const Error& error) {
    refuse(error.what(), where);
  }
}

PlanRule read_rule(const Json& entry, const std::string& where) {
  if (!entry.is_object()) refuse("a rule must be an object", where);
  PlanRule rule;
  rule.where = where;
  if (!json_has(entry, "match")) refuse("the rule has no 'match'", where);
  const Json& match = entry.at("match");
  for (const Json& pattern : match.is_array() ? match : Json::array({match})) {
    if (!pattern.is_string()) refuse("'match' must be a pattern or a list of patterns", where);
    rule.match.push_back(pattern.get<std::string>());
    check_pattern(rule.match.back(), where);
  }
  if (rule.match.empty()) refuse("'match' lists no pattern", where);
  read_choice(entry, {"match"}, rule.method, rule.given, where);
  if (rule.method.empty() && rule.given.empty()) refuse("the rule changes nothing", where);
  return rule;
}

}  // namespace

PlanFile parse_plan(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  if (!json.is_object()) refuse("a plan must be an object", where);
  PlanFile plan;
  for (const auto& [name, value] : json.items()) {
    if (name == "default") {
      if (!value.is_object()) refuse("'default' must be an object", where);
      read_choice(value, {}, plan.method, plan.given, where + ": default");
      if (plan.method == kSkip)
        refuse("the default must be a method", where, "name what to quantize by --include");
    } else if (name == "lm_head" || name == "embeddings") {
      if (!value.is_boolean()) refuse("'" + name + "' must be true or false", where);
      (name == "lm_head" ? plan.output_embedding : plan.embeddings) = value.get<bool>();
    } else if (name == "rules") {
      if (!value.is_array()) refuse("'rules' must be a list", where);
      for (const Json& entry : value)
        plan.rules.push_back(
            read_rule(entry, where + ": rule " + std::to_string(plan.rules.size() + 1)));
    } else {
      refuse("unknown field '" + name + "'", where, "known: default, rules, lm_head, embeddings");
    }
  }
  return plan;
}

}  // namespace qwb
