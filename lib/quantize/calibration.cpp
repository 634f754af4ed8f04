#include "lib/quantize/calibration.h"

#include <algorithm>
#include <numeric>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/interrupt.h"
#include "lib/base/rng.h"

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
  const std::string content = read_text(file, int64_t{1} << 34);
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

using Windows = std::vector<std::vector<int32_t>>;

Windows running_windows(const std::vector<std::string>& texts, int64_t length, const Tokenizer& tokenizer) {
  std::string joined;
  for (const std::string& text : texts) joined += (joined.empty() ? "" : "\n\n") + text;
  const std::vector<int32_t> ids = tokenizer.encode(joined, false);
  Windows windows;
  for (auto at = ids.begin(); ids.end() - at >= length; at += length) windows.emplace_back(at, at + length);
  return windows;
}

Windows document_windows(const std::vector<std::string>& texts, int64_t length, const Tokenizer& tokenizer) {
  Windows windows;
  for (const std::string& text : texts) {
    std::vector<int32_t> ids = tokenizer.encode(text, false);
    check_interrupt();
    if (static_cast<int64_t>(ids.size()) < length) continue;
    ids.resize(static_cast<size_t>(length));
    windows.push_back(std::move(ids));
  }
  return windows;
}

// The first `count` windows, or `count` drawn by a partial Fisher-Yates shuffle and put back into text order.
void choose_windows(Windows& windows, int64_t count, std::optional<uint64_t> seed) {
  if (static_cast<int64_t>(windows.size()) <= count) return;
  if (seed) {
    std::vector<size_t> order(windows.size());
    std::iota(order.begin(), order.end(), size_t{0});
    Rng rng(*seed);
    for (size_t i = 0; i < static_cast<size_t>(count); ++i)
      std::swap(order[i], order[i + rng.below(order.size() - i)]);
    std::sort(order.begin(), order.begin() + count);
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) windows[i].swap(windows[order[i]]);
  }
  windows.resize(static_cast<size_t>(count));
}

}  // namespace

std::vector<std::string> calibration_texts(const Path& file, const RenderChat& chat) {
  if (file.extension() == ".jsonl") return jsonl_texts(file, chat);
  return {read_text(file, int64_t{1} << 34)};
}

CalibrationSet make_calibration_set(const CalibrationRequest& request, const Path& file,
                                    const Tokenizer& tokenizer, const RenderChat& chat, Progress& progress) {
  if (request.samples < 1 || request.length < 2) {
    throw Error(ErrorKind::usage, "calibration needs at least one sample of at least two tokens");
  }
  const std::vector<std::string> texts = calibration_texts(file, chat);
  CalibrationSet set;
  set.name = request.source == "lima" || request.source == "demo" ? request.source : file.filename().string();
  set.length = request.length;
  set.windows = request.documents ? document_windows(texts, request.length, tokenizer)
                                  : running_windows(texts, request.length, tokenizer);
  if (set.windows.empty()) {
    throw Error(ErrorKind::failed,
                "the calibration set gives not one window of " + std::to_string(request.length) + " tokens",
                file.string(), "use a longer text or a smaller --length");
  }
  choose_windows(set.windows, request.samples, request.seed);
  if (static_cast<int64_t>(set.windows.size()) < request.samples) {
    progress.note("the calibration set has only " + std::to_string(set.windows.size()) + " windows of " +
                  std::to_string(request.length) + " tokens (" + std::to_string(request.samples) +
                  " were asked for)");
  }
  Hasher hasher;
  for (const auto& window : set.windows) hasher.bytes(std::as_bytes(std::span(window)));
  set.hash = hasher.hex();
  set.manifest = {{"name", set.name},
                  {"hash", set.hash},
                  {"tokens", set.tokens()},
                  {"windows", set.windows.size()},
                  {"length", set.length},
                  {"seed", request.seed ? Json(*request.seed) : Json(nullptr)},
                  {"documents", request.documents},
                  {"chat_template", static_cast<bool>(chat)}};
  return set;
}

}  // namespace qwb
