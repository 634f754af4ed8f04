#include "lib/report/record_file.h"

#include <sstream>

#include "lib/report/readings.h"

namespace qwb::report {
namespace {

bool blank(const std::string& line) {
  return line.find_first_not_of(" \t\r") == std::string::npos;
}

// The whole text as one value, as jq prints it; nothing if it is none.
std::optional<Json> whole_value(const std::string& text) {
  try {
    Json json = parse_json(text, "");
    return json.is_object() || json.is_array() ? std::optional(std::move(json)) : std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

void take(ResultFile& file, const Json& record, const std::string& where) {
  try {
    check_record(record, where);
    file.results.push_back({record, where});
  } catch (const Error& error) {
    file.problems.push_back(error);
  }
}

}  // namespace

ResultFile read_results(const Path& path) {
  const std::string text = read_text(path), name = path.string();
  ResultFile file;
  if (const std::optional<Json> whole = whole_value(text)) {
    if (whole->is_object()) take(file, *whole, name);
    for (size_t i = 0; whole->is_array() && i < whole->size(); ++i)
      take(file, whole->at(i), name + ": result " + std::to_string(i + 1));
  } else {
    std::istringstream lines(text);
    std::string line;
    for (int64_t number = 1; std::getline(lines, line); ++number) {
      if (blank(line)) continue;
      const std::string where = name + ": line " + std::to_string(number);
      try {
        take(file, parse_json(line, where), where);
      } catch (const Error& error) {
        file.problems.push_back(error);
      }
    }
  }
  if (file.results.empty() && file.problems.empty())
    throw Error(ErrorKind::failed, "there is no result in this file", name,
                "write one with qwb-eval --json");
  return file;
}

}  // namespace qwb::report
