#include "lib/quantize/calibration.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "lib/base/error.h"
#include "lib/base/text_file.h"

namespace qwb {
namespace {

// Python keeps integers of any size, JSON readers of C++ make floats of long ones: refused before a
// template shows one. (A number with a fraction or an exponent is a float to both.)
void refuse_long_integers(std::string_view row, const std::string& where) {
  bool inside_string = false;
  for (size_t at = 0; at < row.size(); ++at) {
    if (inside_string && row[at] == '\\') {
      ++at;
    } else if (row[at] == '"') {
      inside_string = !inside_string;
    } else if (!inside_string && row[at] >= '0' && row[at] <= '9') {
      const size_t end = std::min(row.find_first_not_of("0123456789.eE+-", at), row.size());
      const auto number = row.substr(at, end - at);
      uint64_t value = 0;
      if (number.find_first_of(".eE") == std::string_view::npos &&
          std::from_chars(number.data(), number.data() + number.size(), value).ec != std::errc())
        throw Error(ErrorKind::unsupported,
                    "the integer " + std::string(number) + " has more than 64 bits", where);
      at = end - 1;
    }
  }
}

// What the template says of a conversation, with the row's place.
std::string rendered(const Conversation& conversation, const RenderChat& chat,
                     const std::string& where) {
  try {
    return chat(conversation);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) throw;
    throw Error(error.kind(), error.what(), where);
  }
}

std::string row_text(std::string_view line, const RenderChat& chat, const std::string& where,
                     int64_t& calls_left_out) {
  const Json row = parse_json(line, where);
  if (json_has(row, "text")) return json_string(row, "text", where);
  const Conversation conversation = read_conversation(row, where);
  if (chat) {
    refuse_long_integers(line, where);
    return rendered(conversation, chat, where);
  }
  calls_left_out += has_tool_calls(conversation) ? 1 : 0;
  return conversation_text(conversation);
}

CalibrationTexts jsonl_texts(const Path& file, const RenderChat& chat) {
  const std::string content = read_text_file(file);
  CalibrationTexts result;
  int64_t line = 0;
  for (size_t begin = 0; begin < content.size();) {
    size_t end = content.find('\n', begin);
    if (end == std::string::npos) end = content.size();
    const std::string_view text = std::string_view(content).substr(begin, end - begin);
    begin = end + 1;
    ++line;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = file.string() + " line " + std::to_string(line);
    result.texts.push_back(row_text(text, chat, where, result.calls_left_out));
  }
  return result;
}

}  // namespace

CalibrationTexts calibration_texts(const Path& file, const RenderChat& chat) {
  if (is_json_lines(file)) return jsonl_texts(file, chat);
  return {{read_text_file(file)}};
}

CalibrationSource parse_calibration_source(const std::string& text) {
  CalibrationSource source{text};
  const size_t colon = text.rfind(':');
  std::error_code ignored;
  if (colon == std::string::npos || std::filesystem::exists(text, ignored)) return source;
  const char *begin = text.data() + colon + 1, *end = text.data() + text.size();
  const auto [parsed, error] = std::from_chars(begin, end, source.weight);
  if (error != std::errc() || parsed != end) return {text};
  if (!(source.weight > 0) || !std::isfinite(source.weight)) {
    throw Error(ErrorKind::usage, "the weight behind ':' must be a number above 0",
                "--calib " + text, "as in my.jsonl:2");
  }
  source.name = text.substr(0, colon);
  return source;
}

}  // namespace qwb
