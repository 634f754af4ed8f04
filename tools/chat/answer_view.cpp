#include "tools/chat/answer_view.h"

#include <unistd.h>

#include "lib/report/clean_text.h"

namespace qwb {
namespace {

constexpr const char* kDim = "\x1b[2m";
constexpr const char* kBold = "\x1b[1m";
constexpr const char* kMarked = "\x1b[1;4m";  // bold and underlined
constexpr const char* kNormal = "\x1b[0m";

}  // namespace

AnswerView::AnswerView(Tool& tool, bool hide_thinking)
    : tool_(tool),
      terminal_(is_terminal(STDOUT_FILENO)),
      color_(tool.color_stdout()),
      hide_thinking_(hide_thinking || !terminal_) {}

void AnswerView::begin(const std::string& model, bool headed, const std::vector<int32_t>* base) {
  model_ = model;
  base_ = base;
  tokens_ = 0;
  mark_ = reasoning_ = any_ = false;
  last_ = '\n';
  if (headed && !tool_.json()) tool_.print(styled("== " + report::clean_text(model), kBold) + "\n");
}

AnswerListener AnswerView::listener() {
  return {.on_token = [this](int32_t token) { take(token); },
          .on_part = [this](const AnswerPart& part) { show(part); }};
}

void AnswerView::take(int32_t token) {
  if (base_ != nullptr && (tokens_ >= base_->size() || (*base_)[tokens_] != token)) {
    mark_ = true;
    base_ = nullptr;  // once
  }
  ++tokens_;
}

void AnswerView::show(const AnswerPart& part) {
  if (tool_.json()) {
    const Json line = {{"schema", 1},
                       {"event", "text"},
                       {"model", model_},
                       {"kind", part.reasoning ? "reasoning" : "content"},
                       {"text", part.text}};
    tool_.print(line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    return;
  }
  if (part.reasoning && hide_thinking_) return;
  if (any_ && reasoning_ && !part.reasoning) show_text(last_ == '\n' ? "\n" : "\n\n", false);
  // Without colours a word has to tell the two apart.
  if (part.reasoning && !reasoning_ && !color_) show_text("(thinking) ", true);
  if (!part.reasoning && reasoning_ && !color_) show_text("(answer) ", false);
  reasoning_ = part.reasoning;
  show_text(part.text, part.reasoning);
}

void AnswerView::show_text(const std::string& text, bool reasoning) {
  if (text.empty()) return;
  any_ = true;
  last_ = text.back();
  const std::string shown = terminal_ ? report::clean_lines(text) : text;
  const char* style = mark_ ? kMarked : reasoning ? kDim : nullptr;
  mark_ = false;
  tool_.print(style != nullptr ? styled(shown, style) : shown);
}

void AnswerView::end(bool cut) {
  if (tool_.json()) return;
  if (cut && terminal_) tool_.print(styled(last_ == '\n' ? "[cut]" : " [cut]", kDim));
  // Through a pipe the text is followed by one line feed whatever it ends with.
  if (!terminal_ || last_ != '\n' || !any_ || cut) tool_.print("\n");
}

std::string AnswerView::styled(const std::string& text, const char* style) const {
  return color_ ? style + text + kNormal : text;
}

}  // namespace qwb
