#include "lib/base/json.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "lib/base/error.h"

namespace qwb {
namespace {

constexpr int kMaxDepth = 256;

const Json& member(const Json& object, const std::string& key, const std::string& where) {
  if (!object.is_object())
    throw Error(ErrorKind::failed, "expected a JSON object holding '" + key + "'", where);
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) throw Error(ErrorKind::failed, "'" + key + "' is missing", where);
  return *it;
}

[[noreturn]] void wrong_type(const std::string& key, const char* expected, const Json& value,
                             const std::string& where) {
  throw Error(ErrorKind::failed, "'" + key + "' must be " + expected + ", not " + value.type_name(), where);
}

// Characters of the text that an error shows.
constexpr size_t kExcerpt = 40;
constexpr size_t kShownKey = 60;
constexpr size_t kLongestReason = 120;

// Printable, on one line, no part of a character: what lies before `end`.
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

// "row 1, column 5: unexpected end of input" out of "[json.exception.parse_error.101] parse error at line 1,
// column 5: syntax error while parsing value - unexpected end of input; last read: '...'", which holds the
// document.
std::string place_and_reason(std::string what) {
  constexpr std::string_view kPlace = "parse error at line ";
  if (const size_t id = what.find("] "); id != std::string::npos) what = what.substr(id + 2);
  what = what.substr(0, what.find("; last read"));
  std::string place;
  if (const size_t colon = what.find(": "); what.starts_with("parse error") && colon != std::string::npos) {
    if (what.starts_with(kPlace)) place = " at row " + what.substr(kPlace.size(), colon - kPlace.size());
    what = what.substr(colon + 2);
  }
  if (const size_t dash = what.find(" - "); what.starts_with("syntax error") && dash != std::string::npos)
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
  return before.find_first_not_of(' ') == std::string::npos ? problem : problem + ", after '" + before + "'";
}

Json parse_json(std::string_view text, const std::string& where) {
  // The parser takes a NUL for the end of its input, so that anything could hide behind one.
  if (text.find('\0') != std::string_view::npos) {
    throw Error(ErrorKind::failed, "not valid JSON: a NUL byte", where, "the file is damaged or incomplete");
  }
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) throw Error(ErrorKind::failed, "JSON is nested too deeply", where);
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      throw Error(ErrorKind::failed, "JSON key '" + clipped(parsed.get<std::string>()) + "' appears twice",
                  where);
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
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
    if (number == std::floor(number) && std::abs(number) < 9e15) return static_cast<int64_t>(number);
  }
  wrong_type(key, "an integer", value, where);
}

double json_number(const Json& object, const std::string& key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_number()) wrong_type(key, "a number", value, where);
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

int64_t json_int(const Json& object, const std::string& key, const std::string& where, int64_t fallback) {
  return json_has(object, key) ? json_int(object, key, where) : fallback;
}
double json_number(const Json& object, const std::string& key, const std::string& where, double fallback) {
  return json_has(object, key) ? json_number(object, key, where) : fallback;
}
bool json_bool(const Json& object, const std::string& key, const std::string& where, bool fallback) {
  return json_has(object, key) ? json_bool(object, key, where) : fallback;
}
std::string json_string(const Json& object, const std::string& key, const std::string& where,
                        const std::string& fallback) {
  return json_has(object, key) ? json_string(object, key, where) : fallback;
}

std::string json_text(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string json_canonical(const Json& value) {
  return nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace qwb
