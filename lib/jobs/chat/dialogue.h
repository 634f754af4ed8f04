// A conversation that goes on: its messages, what can be done to them, and the file that keeps it.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/model/sampling.h"
#include "lib/quantize/calibrate/conversation.h"

namespace qwb {

// How answers are made.
struct ChatSettings {
  SamplingSettings sampling;
  int64_t max_tokens = 0;  // of an answer; 0: what is left of the context
  int64_t context = 0;     // tokens of the whole conversation; 0: the model's limit
  std::vector<std::string> stop;
  bool ignore_eos = false;
};

// Throws usage for values out of range, empty stop strings among them.
void check_chat_settings(const ChatSettings& settings);
// {"temperature": 0, "top_k": 0, ...}: the names of the flags.
Json chat_settings_json(const ChatSettings& settings);
// Changes the settings that `json` names. Throws unsupported for names that are not known, usage
// for values out of range.
void read_chat_settings(const Json& json, ChatSettings& settings, const std::string& where);

class Dialogue {
 public:
  Dialogue() = default;
  explicit Dialogue(Conversation conversation) : conversation_(std::move(conversation)) {}

  // What a template renders.
  const Conversation& conversation() const { return conversation_; }
  const Json& messages() const { return conversation_.messages; }
  void set_tools(Json tools) { conversation_.tools = std::move(tools); }
  // A variable of the chat template; null takes it out.
  void set_variable(const std::string& name, const Json& value);

  // The first message, if it is the system's; an empty text takes it out.
  std::optional<std::string> system() const;
  void set_system(const std::string& text);

  void ask(const std::string& text);
  // The assistant's message behind the last question. cut: somebody stopped it.
  void answer(const std::string& content, const std::string& reasoning, bool cut);
  // Whether the last message waits for an answer.
  bool waits() const;
  // Numbers of user's messages, counted from 1.
  int64_t questions() const;
  std::string question(int64_t number) const;

  // Takes the messages behind the last question back. False if there is no question.
  bool take_back_answer();
  // Takes the last question back too: its text. Nothing if there is none.
  std::optional<std::string> undo();
  // Puts another text in place of a question, and forgets everything behind it. Throws usage for a
  // number that there is not.
  void edit(int64_t number, const std::string& text);
  // Only the system's message stays.
  void clear();

  // Whether the message at this index was stopped before its end.
  bool is_cut(size_t index) const { return cut_.contains(index); }
  const std::set<size_t>& cut() const { return cut_; }
  // Throws `failed` for indices of other messages than the assistant's.
  void set_cut(const Json& indices, const std::string& where);

 private:
  std::optional<size_t> question_index(int64_t number) const;  // 0: the last
  void shorten(size_t messages);

  Conversation conversation_;
  std::set<size_t> cut_;
};

// The conversation of one model, or of several that answer the same questions.
struct SavedChat {
  struct Part {
    std::string model;  // as it was named; may be empty
    Dialogue dialogue;
  };
  std::vector<Part> parts;  // at least one
  Json settings = Json::object();
};

// {"messages": [...], "model": NAME, "settings": {...}}, with "tools", "chat_template_kwargs" and
// "cut" (indices of messages that were stopped) where there are some, and of more models the same
// without settings in "others".
std::string chat_text(const SavedChat& chat);
// Reads that, or a list of messages alone. Throws what parse_conversation throws, and unsupported
// for fields that are not known.
SavedChat parse_chat(const std::string& text, const std::string& where);
// True for a file that chat_text made, or that parse_chat reads.
bool is_chat_file(const Path& file);

}  // namespace qwb
