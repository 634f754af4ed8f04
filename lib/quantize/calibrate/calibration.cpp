#include "lib/quantize/calibrate/calibration.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "lib/base/error.h"
#include "lib/base/text_file.h"

namespace qwb {
namespace {

std::string row_text(std::string_view line, const RenderChat& chat, const std::string& where,
                     int64_t& calls_left_out) {
  const Json row = parse_json(line, where);
  const char* field = text_field(row);
  if (chat && field != nullptr && has_turns(row))
    throw Error(ErrorKind::unsupported,
                std::string("the row has both '") + field +
                    "' and a conversation, and which of them the chat template is for is not said",
                where, "leave one of them out, or calibrate without --chat-template on the text");
  if (field != nullptr && (json_has(row, "text") || !has_turns(row)))
    return json_string(row, field, where);
  const Conversation conversation = read_conversation(row, where);
  if (chat) {
    refuse_long_integers(line, where);
    return render_conversation(conversation, chat, where);
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
