// A conversation with one model or several, and what its user can do with it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/jobs/chat/chat_model.h"
#include "lib/jobs/chat/departure.h"
#include "tools/chat/answer_report.h"
#include "tools/chat/answer_view.h"
#include "tools/chat/options.h"
#include "tools/common/tool.h"

namespace qwb {

// A model and what was said to it. Several are asked the same; each has its own answers.
struct Speaker {
  std::unique_ptr<ChatModel> model;
  Dialogue dialogue;
};

class ChatSession {
 public:
  // Opens the models, loads a conversation, checks everything that the first answer needs.
  // interactive: errors of an answer are told and the conversation goes on as before; Ctrl-C ends
  // an answer only.
  ChatSession(const ChatOptions& options, bool interactive, Tool& tool);

  const std::vector<Speaker>& speakers() const { return speakers_; }
  Dialogue& first() { return speakers_.front().dialogue; }
  ChatSettings& settings() { return settings_; }
  const ChatTotals& totals() const { return totals_; }
  void show_stats(bool on);
  // Where the conversation is kept; empty: nowhere.
  const std::string& place() const { return place_; }

  void say(const std::string& text);
  // Answers what waits for an answer.
  void answer();
  void regenerate(uint64_t seed);
  void edit(int64_t number, const std::string& text);
  // The question that was taken back.
  std::string undo();
  void clear();
  void set_system(const std::string& text);
  void set_thinking(bool on);
  // Changes nothing if one of them cannot be opened.
  void take_models(const std::vector<std::string>& names);
  void load(const std::string& file);
  // Keeps it there from now on. Throws usage for another file that is there already.
  void save_as(const std::string& file);

 private:
  using Change = std::function<void(Dialogue&)>;
  Speaker open(const std::string& name);
  void take_conversation();
  void take_saved(const SavedChat& chat, const std::string& where);
  void change_all(const Change& change);
  void answer_or_take_back(std::vector<Dialogue> before);
  bool answer_one(Speaker& speaker, const Speaker& base, const Answer* base_answer, Answer& answer);
  void tell(const Speaker& speaker, const Answer& answer, const AnswerEnergy& energy,
            const std::optional<Comparison>& comparison);
  void warn_of_special_tokens(const std::string& text);
  void save() const;

  ChatOptions options_;
  bool interactive_;
  Tool& tool_;
  ChatSettings settings_;
  std::vector<Speaker> speakers_;
  AnswerView view_;
  std::optional<AnswerMeter> meter_;
  bool stats_;
  ChatTotals totals_;
  std::string place_;
};

// Whether two names are those of one file.
bool same_file(const std::string& a, const std::string& b);

}  // namespace qwb
