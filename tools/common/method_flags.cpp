#include "tools/common/method_flags.h"

#include <algorithm>
#include <charconv>

#include "lib/base/error.h"
#include "tools/manual/declaration.h"

namespace qwb {
namespace {

std::string flag_name(std::string parameter) {
  std::replace(parameter.begin(), parameter.end(), '_', '-');
  return "--" + parameter;
}

std::string opposite(const std::string& parameter) {
  return parameter == "symmetric" ? "--asymmetric" : "--no-" + flag_name(parameter).substr(2);
}

std::string fallback_text(const Parameter& parameter) {
  return parameter.fallback.is_string() ? parameter.fallback.get<std::string>()
                                        : parameter.fallback.dump();
}

// "true; rtn, gptq, awq: false" behind a flag's help: the default, the methods that take it, and
// what those that differ have in its place.
std::string parameter_help(const Parameter& parameter, const std::string& methods) {
  std::string text = parameter.help;
  if (!parameter.choices.empty()) {
    text += ": ";
    for (size_t i = 0; i < parameter.choices.size(); ++i)
      text += (i == 0 ? "" : ", ") + parameter.choices[i];
  }
  return text + " [" + fallback_text(parameter) + "; " + methods + "]";
}

std::string value_name(Parameter::Kind kind) {
  return kind == Parameter::Kind::choice ? "WORD" : kind == Parameter::Kind::integer ? "N" : "X";
}

Json parse_value(Parameter::Kind kind, const std::string& text, const std::string& flag) {
  if (kind == Parameter::Kind::choice) return text;
  if (kind == Parameter::Kind::integer) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && end == text.data() + text.size()) return value;
    throw Error(ErrorKind::usage, flag + " needs a whole number, not '" + text + "'");
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) return value;
  throw Error(ErrorKind::usage, flag + " needs a number, not '" + text + "'");
}

}  // namespace

MethodFlags::MethodFlags(CLI::App& app, const std::set<std::string>& without) {
  std::vector<Parameter> parameters;  // the first declaration of each name
  std::map<std::string, std::string> users, fallbacks;
  for (const auto& method : methods()) {
    for (const Parameter& parameter : method->parameters()) {
      if (without.contains(parameter.name)) continue;
      std::string& names = users[parameter.name];
      if (names.empty()) parameters.push_back(parameter);
      const std::string fallback = fallback_text(parameter);
      const auto& first = fallbacks.emplace(parameter.name, fallback).first->second;
      names +=
          (names.empty() ? "" : ", ") + method->name() + (fallback == first ? "" : ": " + fallback);
    }
  }
  for (const Parameter& parameter : parameters) {
    auto flag = std::make_unique<Flag>();
    flag->kind = parameter.kind;
    const std::string help = parameter_help(parameter, users[parameter.name]);
    if (parameter.kind == Parameter::Kind::boolean) {
      flag->option =
          app.add_flag(flag_name(parameter.name) + ",!" + opposite(parameter.name), flag->on, help);
    } else {
      flag->option = app.add_option(flag_name(parameter.name), flag->text, help)
                         ->type_name(value_name(parameter.kind));
      if (!parameter.choices.empty()) offer(flag->option, parameter.choices);
    }
    flag->option->group("Method parameters [default; methods]");
    flags_.emplace(parameter.name, std::move(flag));
  }
}

Json MethodFlags::given(const Method& method) const {
  Json given = Json::object();
  const std::vector<Parameter> own = method.parameters();
  for (const auto& [name, flag] : flags_) {
    if (flag->option->count() == 0) continue;
    const bool boolean = flag->kind == Parameter::Kind::boolean;
    const Json value =
        boolean ? Json(flag->on) : parse_value(flag->kind, flag->text, flag_name(name));
    const bool has = std::any_of(own.begin(), own.end(), [&, wanted = name](const Parameter& p) {
      return p.name == wanted;
    });
    if (!has && name == "bits" && value == fixed_bits(method)) continue;
    if (!has)
      throw Error(ErrorKind::usage, "method " + method.name() + " has no " + flag_name(name), {},
                  "see qwb-quantize --help");
    given[name] = value;
  }
  resolve_settings(method, given);
  return given;
}

}  // namespace qwb
