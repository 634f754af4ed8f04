#include "lib/quantize/calibration.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "lib/base/error.h"
#include "lib/base/text_file.h"

namespace qwb {
namespace {

// The turns of one conversation as {role, content} messages.
Json turns(const Json& row, const std::string& where) {
  Json messages = Json::array();
  const bool openai = json_has(row, "messages");
  const Json& list = openai ? row.at("messages") : row.at("conversations");
  if (!list.is_array()) throw Error(ErrorKind::failed, "the conversation is not a list", where);
  for (const Json& turn : list) {
    if (turn.is_string()) {
      messages.push_back({{"role", messages.size() % 2 == 0 ? "user" : "assistant"}, {"content", turn}});
      continue;
    }
    std::string role = json_string(turn, openai ? "role" : "from", where);
    if (role == "human") role = "user";
    if (role == "gpt") role = "assistant";
    messages.push_back({{"role", role}, {"content", json_string(turn, openai ? "content" : "value", where)}});
  }
  return messages;
}

std::string row_text(const Json& row, const RenderChat& chat, const std::string& where) {
  if (json_has(row, "text")) return json_string(row, "text", where);
  if (!json_has(row, "messages") && !json_has(row, "conversations")) {
    throw Error(ErrorKind::failed, "the row has none of the fields text, messages, conversations", where);
  }
  const Json messages = turns(row, where);
  if (chat) return chat(messages);
  std::string text;
  for (const Json& message : messages)
    text += (text.empty() ? "" : "\n\n") + message.at("content").get<std::string>();
  return text;
}

std::vector<std::string> jsonl_texts(const Path& file, const RenderChat& chat) {
  const std::string content = read_text_file(file);
  std::vector<std::string> texts;
  int64_t line = 0;
  for (size_t begin = 0; begin < content.size();) {
    size_t end = content.find('\n', begin);
    if (end == std::string::npos) end = content.size();
    const std::string_view text = std::string_view(content).substr(begin, end - begin);
    begin = end + 1;
    ++line;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = file.string() + " line " + std::to_string(line);
    texts.push_back(row_text(parse_json(text, where), chat, where));
  }
  return texts;
}

}  // namespace

std::vector<std::string> calibration_texts(const Path& file, const RenderChat& chat) {
  if (is_json_lines(file)) return jsonl_texts(file, chat);
  return {read_text_file(file)};
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
    throw Error(ErrorKind::usage, "the weight behind ':' must be a number above 0", "--calib " + text,
                "as in my.jsonl:2");
  }
  source.name = text.substr(0, colon);
  return source;
}

}  // namespace qwb
