// An answer on its way to the user: on a terminal, through a pipe, or as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/jobs/chat/chat_model.h"
#include "tools/common/tool.h"

namespace qwb {

class AnswerView {
 public:
  AnswerView(Tool& tool, bool hide_thinking);

  // headed: several models answer, so that each answer begins with its model's name. base: the
  // answer whose first different token will be marked; null: none.
  void begin(const std::string& model, bool headed, const std::vector<int32_t>* base);
  // To be told of everything that follows.
  AnswerListener listener();
  void end(bool cut);

 private:
  void take(int32_t token);
  void show(const AnswerPart& part);
  void show_text(const std::string& text, bool reasoning);
  std::string styled(const std::string& text, const char* style) const;

  Tool& tool_;
  bool terminal_ = false, color_ = false, hide_thinking_ = false;
  std::string model_;
  const std::vector<int32_t>* base_ = nullptr;
  size_t tokens_ = 0;
  bool mark_ = false;       // the next text belongs to the first token that differs
  bool reasoning_ = false;  // what was shown last
  bool any_ = false;        // something was shown
  char last_ = '\n';
};

}  // namespace qwb
