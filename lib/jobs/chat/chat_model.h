// A model that answers in a conversation: template, tokens, sampling, ends, reasoning, and the keys
// and values that it keeps from one turn to the next.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/loaded_model.h"
#include "lib/base/stop.h"
#include "lib/chat/reasoning.h"
#include "lib/jobs/chat/dialogue.h"
#include "lib/model/prefill.h"

namespace qwb {

enum class FinishReason {
  eos,      // a token that ends a text
  stop,     // a stop string
  length,   // max_tokens
  context,  // the context is full
  cut,      // somebody asked to stop
};
const char* finish_name(FinishReason reason);

struct Answer {
  std::string content, reasoning;
  std::vector<int32_t> prompt;  // the whole conversation before it
  std::vector<int32_t> tokens;  // all that were made, reasoning among them, the end token not
  std::optional<int32_t> end_token;
  FinishReason finish = FinishReason::length;
  std::string stop;    // the stop string
  int64_t reused = 0;  // tokens of the prompt whose keys and values were kept
  uint64_t seed = 0;
  double prefill_seconds = 0;  // to the first token
  double decode_seconds = 0;   // from the first token to the last
};

// Who is told of an answer while it is made.
struct AnswerListener {
  std::function<void(int32_t token)> on_token = {};          // of every token, before its text
  std::function<void(const AnswerPart& part)> on_part = {};  // as soon as a text is certain
};

class ChatModel {
 public:
  // `name`: as the user knows it. Throws not_found if the model has no chat template.
  ChatModel(std::string name, LoadedModel loaded);

  const std::string& name() const { return name_; }
  const Model& model() const { return *loaded_.model; }
  const Tokenizer& tokenizer() const { return *loaded_.tokenizer; }
  // Tokens of a conversation with these settings. Throws usage beyond the model's limit.
  int64_t context(const ChatSettings& settings) const;

  // The variable of the template that turns thinking on and off: whichever of the usual ones
  // changes what it writes. Throws unsupported if none does.
  std::string thinking_variable() const;
  // Throws unsupported if the template leaves out the system's message or the tools.
  void check_shown(const Dialogue& dialogue) const;
  // Special tokens that a text spells: the model reads them as such.
  std::vector<std::string> special_tokens_in(const std::string& text) const;

  // The conversation as the model reads it, waiting for an answer. Throws what
  // ChatTemplate::render throws.
  std::string prompt_text(const Dialogue& dialogue) const;
  // Its tokens: those that the template writes, and no others. Throws usage where they are more
  // than the context.
  std::vector<int32_t> prompt_tokens(const Dialogue& dialogue, const ChatSettings& settings) const;

  // Answers the conversation's last message. Its bits do not depend on what the model has answered
  // before. A requested stop ends the answer (FinishReason::cut) and keeps what came. Throws what
  // prompt_tokens and Model::forward throw.
  Answer answer(const Dialogue& dialogue, const ChatSettings& settings,
                const AnswerListener& listener, const StopToken& stop);

  // The probabilities, by token, of what follows the first `index` tokens of the last answer, at
  // temperature 1 and without a penalty: the very logits that it was made from. What came behind
  // them is forgotten, so ask for later places first. Throws usage if `answer` is not the last one.
  std::vector<double> probabilities_at(const Answer& answer, int64_t index, const StopToken& stop);

 private:
  class Writer;
  bool changes(const Dialogue& dialogue, const Dialogue& other) const;
  void generate(Answer& answer, const ChatSettings& settings, Writer& writer,
                const AnswerListener& listener, const StopToken& stop);
  bool ends(int32_t token) const;

  std::string name_;
  LoadedModel loaded_;
  ChatTemplate template_;
  std::vector<int64_t> end_tokens_;
  std::vector<ReasoningTags> tags_;
  std::map<int32_t, std::string> special_tags_;  // tags that the decoder would leave out
  std::unique_ptr<KeptSequence> sequence_;
};

}  // namespace qwb
