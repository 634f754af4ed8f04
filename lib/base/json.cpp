#include "lib/base/json.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "lib/base/error.h"

namespace qwb {
namespace {

constexpr int kMaxDepth = 256;

const Json& member(const Json& object, const std::string& key, const std::string& where) {
  if (!object.is_object())
    throw Error(ErrorKind::failed, "expected a JSON object holding '" + key + "'", where);
  const auto it = object.find(key);
  if (it == object.end() || it->is_null())
    throw Error(ErrorKind::failed, "'" + key + (it == object.end() ? "' is missing" : "' is null"),
                where);
  return *it;
}

// Python's json writes NaN, Infinity and -Infinity, which are no JSON. They go through the parser,
// and out of the writer, as texts that begin with this mark and that no file has (a NUL, escaped).
const std::string kMark = std::string(1, '\0') + "qwb:";
constexpr std::string_view kEscapedMark = "\"\\u0000qwb:";
constexpr std::pair<std::string_view, double> kConstants[] = {
    {"NaN", std::numeric_limits<double>::quiet_NaN()},
    {"Infinity", std::numeric_limits<double>::infinity()},
    {"-Infinity", -std::numeric_limits<double>::infinity()}};

// The text with Python's constants, outside of strings, marked; the text itself if there are none.
std::string_view mark_constants(std::string_view text, std::string& storage) {
  if (text.find("NaN") == std::string_view::npos && text.find("Infinity") == std::string_view::npos)
    return text;
  bool quoted = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted && c == '\\' && at + 1 < text.size()) storage += text[at++];
    if (c == '"') quoted = !quoted;
    std::string_view found;
    for (const auto& [name, value] : kConstants) {
      if (!quoted && text.substr(at).starts_with(name)) found = name;
    }
    const size_t next = text.find_first_not_of(" \t\r\n", at + found.size());
    if (found.empty() ||
        (next != std::string_view::npos && text[next] == ':')) {  // no key of an object
      storage += text[at];
      continue;
    }
    storage.append(kEscapedMark).append(found).append("\"");
    at += found.size() - 1;
  }
  return storage;
}

void restore_constant(Json& value) {
  if (!value.is_string() || !value.get_ref<const std::string&>().starts_with(kMark)) return;
  const std::string name = value.get<std::string>().substr(kMark.size());
  for (const auto& [known, number] : kConstants) {
    if (name == known) value = number;
  }
}

bool has_constants(const Json& value) {
  if (value.is_structured())
    return std::any_of(value.begin(), value.end(),
                       [](const Json& inner) { return has_constants(inner); });
  return value.is_number_float() && !std::isfinite(value.get<double>());
}

void replace_constants(Json& value) {
  if (value.is_structured()) {
    for (Json& inner : value) replace_constants(inner);
  } else if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const auto number = value.get<double>();
    value = kMark + (std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity");
  }
}

// The library writes null for these numbers; Python writes what its parser reads.
template <class Write>
std::string write_constants(const Json& value, const Write& write) {
  if (!has_constants(value)) return write(value);
  Json copy = value;
  replace_constants(copy);
  std::string text = write(copy);
  for (const auto& [name, number] : kConstants) {
    const std::string marked = std::string(kEscapedMark).append(name).append("\"");
    for (size_t at = text.find(marked); at != std::string::npos; at = text.find(marked, at))
      text.replace(at, marked.size(), name);
  }
  return text;
}

[[noreturn]] void wrong_type(const std::string& key, const char* expected, const Json& value,
                             const std::string& where) {
  throw Error(ErrorKind::failed, "'" + key + "' must be " + expected + ", not " + value.type_name(),
              where);
}

// Characters of the text that an error shows.
constexpr size_t kExcerpt = 40;
constexpr size_t kShownKey = 60;
constexpr size_t kLongestReason = 120;

// The text before `end`: printable, on one line, without parts of characters.
std::string excerpt_before(std::string_view text, size_t end) {
  size_t begin = end > kExcerpt ? end - kExcerpt : 0;
  const size_t line = text.substr(0, end).rfind('\n');
  if (line != std::string_view::npos) begin = std::max(begin, line + 1);
  while (begin < end && (static_cast<unsigned char>(text[begin]) & 0xc0) == 0x80) ++begin;
  std::string shown;
  for (const char c : text.substr(begin, end - begin))
    shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  return shown;
}

// "row 1, column 5: unexpected end of input" out of "[json.exception.parse_error.101] parse error
// at line 1, column 5: syntax error while parsing value - unexpected end of input; last read:
// '...'", which holds the document.
std::string place_and_reason(std::string what) {
  constexpr std::string_view kPlace = "parse error at line ";
  if (const size_t id = what.find("] "); id != std::string::npos) what = what.substr(id + 2);
  what = what.substr(0, what.find("; last read"));
  std::string place;
  if (const size_t colon = what.find(": ");
      what.starts_with("parse error") && colon != std::string::npos) {
    if (what.starts_with(kPlace))
      place = " at row " + what.substr(kPlace.size(), colon - kPlace.size());
    what = what.substr(colon + 2);
  }
  if (const size_t dash = what.find(" - ");
      what.starts_with("syntax error") && dash != std::string::npos)
    what = what.substr(dash + 3);
  return place + ": " + what.substr(0, kLongestReason);
}

std::string clipped(const std::string& key) {
  return key.size() <= kShownKey ? key : key.substr(0, kShownKey) + "…";
}

}  // namespace

std::string json_problem(std::string_view text, size_t byte, const std::string& what) {
  const std::string problem = "not valid JSON" + place_and_reason(what);
  const std::string before = excerpt_before(text, std::min(byte > 0 ? byte - 1 : 0, text.size()));
  return before.find_first_not_of(' ') == std::string::npos ? problem
                                                            : problem + ", after '" + before + "'";
}

Json parse_json(std::string_view text, const std::string& where) {
  // The parser takes a NUL for the end of its input, so that anything could hide behind one.
  if (text.find('\0') != std::string_view::npos) {
    throw Error(ErrorKind::failed, "not valid JSON: a NUL byte", where,
                "the file is damaged or incomplete");
  }
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    throw Error(ErrorKind::failed, "not valid JSON: there is nothing in it", where,
                "the file is damaged or incomplete");
  }
  std::string storage;
  const std::string_view marked = mark_constants(text, storage);
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) throw Error(ErrorKind::failed, "JSON is nested too deeply", where);
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key &&
        !keys.back().insert(parsed.get<std::string>()).second) {
      throw Error(ErrorKind::failed,
                  "JSON key '" + clipped(parsed.get<std::string>()) + "' appears twice", where);
    }
    if (event == Json::parse_event_t::value && marked.data() == storage.data())
      restore_constant(parsed);
    return true;
  };
  try {
    return Json::parse(marked, watch);
  } catch (const nlohmann::json::parse_error& error) {
    throw Error(ErrorKind::failed, json_problem(text, error.byte, error.what()), where,
                "the file is damaged or incomplete");
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::failed, json_problem({}, 0, error.what()), where,
                "the file is damaged or incomplete");
  }
}

int64_t json_int(const Json& object, const std::string& key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number <= static_cast<uint64_t>(INT64_MAX)) return static_cast<int64_t>(number);
  } else if (value.is_number_integer()) {
    return value.get<int64_t>();
  } else if (value.is_number_float()) {
    const auto number = value.get<double>();
    if (number == std::floor(number) && std::abs(number) < 9e15)
      return static_cast<int64_t>(number);
  }
  wrong_type(key, "an integer", value, where);
}

double json_number(const Json& object, const std::string& key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_number()) wrong_type(key, "a number", value, where);
  if (!std::isfinite(value.get<double>()))
    throw Error(ErrorKind::failed, "'" + key + "' is not a finite number", where);
  return value.get<double>();
}

bool json_bool(const Json& object, const std::string& key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_boolean()) wrong_type(key, "true or false", value, where);
  return value.get<bool>();
}

std::string json_string(const Json& object, const std::string& key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_string()) wrong_type(key, "a string", value, where);
  return value.get<std::string>();
}

bool json_has(const Json& object, const std::string& key) {
  if (!object.is_object()) return false;
  const auto it = object.find(key);
  return it != object.end() && !it->is_null();
}

int64_t json_int(const Json& object, const std::string& key, const std::string& where,
                 int64_t fallback) {
  return json_has(object, key) ? json_int(object, key, where) : fallback;
}
double json_number(const Json& object, const std::string& key, const std::string& where,
                   double fallback) {
  return json_has(object, key) ? json_number(object, key, where) : fallback;
}
bool json_bool(const Json& object, const std::string& key, const std::string& where,
               bool fallback) {
  return json_has(object, key) ? json_bool(object, key, where) : fallback;
}
std::string json_string(const Json& object, const std::string& key, const std::string& where,
                        const std::string& fallback) {
  return json_has(object, key) ? json_string(object, key, where) : fallback;
}

std::string json_text(const Json& value) {
  return write_constants(value, [](const Json& v) {
    return v.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  });
}

std::string json_canonical(const Json& value) {
  return write_constants(value, [](const Json& v) {
    return nlohmann::json(v).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  });
}

}  // namespace qwb
