#include <algorithm>
#include <cmath>

#include "lib/base/names.h"
#include "lib/quantize/method.h"

// Every method, in the order of help and tables: one line each. The file methods/NAME.cpp, or one
// of its kin, defines make_NAME().
#define QWB_METHODS(X) \
  X(none)              \
  X(rtn)               \
  X(int8)              \
  X(nf4)               \
  X(fp4)               \
  X(gptq)              \
  X(awq)

namespace qwb {

#define QWB_DECLARE_METHOD(name) std::unique_ptr<Method> make_##name();
QWB_METHODS(QWB_DECLARE_METHOD)
#undef QWB_DECLARE_METHOD

namespace {

std::vector<std::unique_ptr<Method>> make_all() {
  std::vector<std::unique_ptr<Method>> all;
#define QWB_ADD_METHOD(name) all.push_back(make_##name());
  QWB_METHODS(QWB_ADD_METHOD)
#undef QWB_ADD_METHOD
  return all;
}

// "did you mean 'x'? " if one of the names is near, then all of them.
std::string suggestion(const std::string& given, const std::vector<std::string>& names) {
  std::string text;
  if (const auto near = nearest_name(given, names)) text = "did you mean '" + *near + "'? ";
  text += names.empty() ? "there are none" : "known:";
  for (const std::string& name : names) text += " " + name;
  return text;
}

[[noreturn]] void refuse(const Parameter& parameter, const Json& value, const std::string& method,
                         const std::string& expected) {
  throw Error(ErrorKind::usage, parameter.name + " must be " + expected + ", not " + value.dump(),
              "method " + method, parameter.help);
}

std::string range_text(const Parameter& parameter) {
  const Json low = parameter.minimum, high = parameter.maximum;
  if (parameter.kind == Parameter::Kind::integer) {
    return std::to_string(static_cast<int64_t>(parameter.minimum)) + " to " +
           std::to_string(static_cast<int64_t>(parameter.maximum));
  }
  return low.dump() + " to " + high.dump();
}

// The value in its canonical JSON type (4.0 becomes 4 for an integer), so that equal settings have
// equal text.
Json checked_value(const Parameter& parameter, const Json& value, const std::string& method) {
  switch (parameter.kind) {
    case Parameter::Kind::boolean:
      if (!value.is_boolean()) refuse(parameter, value, method, "true or false");
      return value;
    case Parameter::Kind::choice: {
      const auto& choices = parameter.choices;
      const auto* given = value.get_ptr<const std::string*>();
      for (const std::string& choice : choices) {
        if (given != nullptr && same_name(choice, *given)) return choice;
      }
      std::string all;
      for (const std::string& choice : choices) all += (all.empty() ? "" : " | ") + choice;
      refuse(parameter, value, method, all);
    }
    case Parameter::Kind::integer:
    case Parameter::Kind::number:
      break;
  }
  const bool integer = parameter.kind == Parameter::Kind::integer;
  const std::string kind = integer ? "an integer, " : "a number, ";
  if (!value.is_number()) refuse(parameter, value, method, kind + range_text(parameter));
  const double number = value.get<double>();
  const bool fits = number >= parameter.minimum && number <= parameter.maximum;
  if (!fits || (integer && number != std::floor(number))) {
    refuse(parameter, value, method, kind + range_text(parameter));
  }
  return integer ? Json(static_cast<int64_t>(number)) : Json(number);
}

}  // namespace

const std::vector<std::unique_ptr<Method>>& methods() {
  static const std::vector<std::unique_ptr<Method>> all = make_all();
  return all;
}

const Method& find_method(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& method : methods()) {
    if (same_name(method->name(), name)) return *method;
    names.push_back(method->name());
  }
  const std::string given(name);
  throw Error(ErrorKind::usage, "unknown method '" + given + "'", {}, suggestion(given, names));
}

double fixed_bits(const Method& method) {
  for (const Parameter& parameter : method.parameters()) {
    if (parameter.name == "bits") return 0;
  }
  return method.bits(resolve_settings(method, Json::object()));
}

Settings resolve_settings(const Method& method, const Json& given) {
  if (!given.is_object() && !given.is_null()) {
    throw Error(ErrorKind::usage, "settings must be an object", "method " + method.name());
  }
  const std::vector<Parameter> parameters = method.parameters();
  std::vector<std::string> names;
  names.reserve(parameters.size());
  for (const Parameter& parameter : parameters) names.push_back(parameter.name);
  for (const auto& item : given.items()) {
    if (std::find(names.begin(), names.end(), item.key()) == names.end()) {
      throw Error(ErrorKind::usage, "unknown parameter '" + item.key() + "'",
                  "method " + method.name(), suggestion(item.key(), names));
    }
  }
  Settings settings = Json::object();
  const Json completed = given.is_object() ? method.completed(given) : Json::object();
  for (const Parameter& parameter : parameters) {
    const bool has = completed.contains(parameter.name);
    const Json value = checked_value(
        parameter, has ? completed.at(parameter.name) : parameter.fallback, method.name());
    if (!parameter.implied || value != parameter.fallback) settings[parameter.name] = value;
  }
  method.check(settings);
  return settings;
}

}  // namespace qwb
