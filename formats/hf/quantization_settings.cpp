#include "formats/hf/quantization_settings.h"

#include <algorithm>

#include "lib/base/error.h"
#include "lib/tokenizer/regex.h"

namespace qwb {
namespace {

constexpr size_t kShownSetting = 80;

bool is_allowed(const SettingRule& rule, const Json& value) {
  if (rule.allowed.empty() || is_unset(value)) return true;
  if (rule.allowed == "-") return false;
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  const std::string list = "|" + std::string(rule.allowed) + "|";
  return list.find("|" + text + "|") != std::string::npos;
}

const SettingRule* rule_of(std::string_view key, std::span<const SettingRule> rules) {
  const auto rule = std::find_if(rules.begin(), rules.end(),
                                 [&](const SettingRule& known) { return known.key == key; });
  return rule == rules.end() ? nullptr : &*rule;
}

}  // namespace

bool is_unset(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty()) ||
         (value.is_structured() && value.empty());
}

std::string setting_text(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kShownSetting) text = text.substr(0, kShownSetting) + "...";
  return text;
}

void check_settings(const Json& settings, std::span<const SettingRule> rules,
                    const std::string& where, std::span<const SettingRule> more_rules) {
  if (!settings.is_object()) throw Error(ErrorKind::failed, "must be a JSON object", where);
  for (const auto& [key, value] : settings.items()) {
    const SettingRule* rule = rule_of(key, rules);
    if (rule == nullptr) rule = rule_of(key, more_rules);
    // A key without a value leaves the default, whatever it is about.
    const bool known = rule != nullptr;
    if (known ? is_allowed(*rule, value)
              : value.is_null() || (value.is_structured() && value.empty()) ||
                    is_harmless_setting(key))
      continue;
    throw Error(
        ErrorKind::unsupported,
        "the setting '" + key.substr(0, 60) + "' (" + setting_text(value) + ") is not " +
            (known ? "supported" : "known"),
        where,
        "with it the weights could mean something else; convert with the library that wrote them");
  }
}

void refuse_different(const Json& settings, std::initializer_list<const char*> names,
                      const std::string& where) {
  const char* first = nullptr;
  for (const char* name : names) {
    if (!json_has(settings, name)) continue;
    if (first == nullptr) first = name;
    if (settings.at(name) == settings.at(first)) continue;
    throw Error(ErrorKind::unsupported,
                std::string("'") + first + "' is " + setting_text(settings.at(first)) + " and '" +
                    name + "' " + setting_text(settings.at(name)),
                where, "they are two names of one setting: remove the one that is wrong");
  }
}

bool python_match(const std::string& pattern, const std::string& text, const std::string& where) {
  try {
    return tokenizer::Regex(pattern).find(text, 0).first == 0;
  } catch (const Error&) {
    throw Error(ErrorKind::unsupported,
                "the pattern '" + pattern.substr(0, 80) + "' cannot be read", where);
  }
}

bool skips_module(const Json& list, const std::string& module, const std::string& where) {
  if (list.is_null()) return false;
  if (!list.is_array()) throw Error(ErrorKind::failed, "must be a list of names", where);
  return std::any_of(list.begin(), list.end(), [&](const Json& entry) {
    if (!entry.is_string()) throw Error(ErrorKind::failed, "must be a list of names", where);
    const auto& name = entry.get_ref<const std::string&>();
    return module.ends_with(name) ||
           python_match("(?:" + name + ")(?:(?<=\\.)|(?=\\.|$))", module, where);
  });
}

}  // namespace qwb
