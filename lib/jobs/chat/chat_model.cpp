#include "lib/jobs/chat/chat_model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string_view>
#include <utility>

#include "lib/base/error.h"
#include "lib/chat/stop_strings.h"

namespace qwb {
namespace {

using AnswerClock = std::chrono::steady_clock;

double seconds_between(AnswerClock::time_point from, AnswerClock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

std::string_view without_blanks(std::string_view text) {
  constexpr std::string_view kWhite = " \t\r\n";
  const size_t begin = text.find_first_not_of(kWhite);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kWhite) + 1 - begin);
}

}  // namespace

const char* finish_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::eos:
      return "eos";
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::context:
      return "context";
    case FinishReason::cut:
      return "cut";
  }
  return "";
}

// Tokens become text, up to a stop string; reasoning and answer go their own ways.
class ChatModel::Writer {
 public:
  Writer(const ChatModel& model, const std::vector<int32_t>& prompt, const std::string& prompt_text,
         const ChatSettings& settings, const AnswerListener& listener, Answer& answer)
      : special_tags_(model.special_tags_),
        decoder_(model.tokenizer().stream(true)),
        stops_(settings.stop),
        splitter_(model.tags_, prompt_text),
        listener_(listener),
        answer_(answer) {
    // The decoder has to see the prompt: it decides whether the first word begins with a space.
    for (const int32_t token : prompt) decoder_.push(token);
  }
  // False once a stop string is found.
  bool put(int32_t token) {
    std::string text = decoder_.push(token);
    if (const auto tag = special_tags_.find(token); tag != special_tags_.end()) text += tag->second;
    tell(splitter_.push(stops_.push(text)));
    return stops_.found().empty();
  }
  void finish() {
    if (stops_.found().empty()) tell(splitter_.push(stops_.push(decoder_.finish())));
    answer_.stop = stops_.found();
    tell(splitter_.push(stops_.finish()));
    tell(splitter_.finish());
  }

 private:
  void tell(const std::vector<AnswerPart>& parts) {
    for (const AnswerPart& part : parts) {
      (part.reasoning ? answer_.reasoning : answer_.content) += part.text;
      if (listener_.on_part) listener_.on_part(part);
    }
  }

  const std::map<int32_t, std::string>& special_tags_;
  StreamDecoder decoder_;
  StopStrings stops_;
  ReasoningSplitter splitter_;
  const AnswerListener& listener_;
  Answer& answer_;
};

ChatModel::ChatModel(std::string name, LoadedModel loaded)
    : name_(std::move(name)),
      loaded_(std::move(loaded)),
      template_(loaded_.chat_template()),
      end_tokens_(loaded_.end_tokens()),
      sequence_(std::make_unique<KeptSequence>(model())) {
  for (const ReasoningTags& pair : known_reasoning_tags()) {
    const bool used = template_.mentions(pair.open) || template_.mentions(pair.close) ||
                      tokenizer().id_of(pair.open).has_value();
    if (!used) continue;
    tags_.push_back(pair);
    for (const std::string& tag : {pair.open, pair.close}) {
      const auto id = tokenizer().id_of(tag);
      if (id && tokenizer().is_special(*id)) special_tags_[*id] = tag;
    }
  }
}

int64_t ChatModel::context(const ChatSettings& settings) const {
  const int64_t limit = model().config().max_positions;
  if (settings.context > limit) {
    throw Error(ErrorKind::usage, "a context of " + std::to_string(settings.context) +
                                      " tokens is beyond the model's limit of " +
                                      std::to_string(limit));
  }
  return settings.context > 0 ? settings.context : limit;
}

// Whether the template writes two conversations differently.
bool ChatModel::changes(const Dialogue& dialogue, const Dialogue& other) const {
  const auto text = [&](const Dialogue& one) -> std::optional<std::string> {
    try {
      return prompt_text(one);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::interrupted) throw;
      return std::nullopt;
    }
  };
  return text(dialogue) != text(other);
}

std::string ChatModel::thinking_variable() const {
  for (const char* name : {"enable_thinking", "thinking"}) {
    if (!template_.mentions(name)) continue;
    Dialogue on, off;
    on.ask("Hello");
    off.ask("Hello");
    on.set_variable(name, true);
    off.set_variable(name, false);
    if (changes(on, off)) return name;
  }
  throw Error(ErrorKind::unsupported, "the chat template has no switch for thinking", name_,
              "leave --think and --no-think out");
}

void ChatModel::check_shown(const Dialogue& given) const {
  Dialogue dialogue = given;
  if (!dialogue.waits()) dialogue.ask("Hello");  // templates want a question
  const std::optional<std::string> system = dialogue.system();
  if (system && prompt_text(dialogue).find(without_blanks(*system)) == std::string::npos) {
    throw Error(ErrorKind::unsupported, "the chat template leaves the system prompt out", name_,
                "say it in your first message");
  }
  if (!dialogue.conversation().tools.is_array() || dialogue.conversation().tools.empty()) return;
  Dialogue without = dialogue;
  without.set_tools(nullptr);
  if (changes(dialogue, without)) return;
  throw Error(ErrorKind::unsupported, "the chat template does not show tools", name_,
              "leave the tools out");
}

std::vector<std::string> ChatModel::special_tokens_in(const std::string& text) const {
  std::vector<std::string> found;
  for (const int32_t id : tokenizer().encode(text, false)) {
    std::string token = tokenizer().token_of(id);
    if (tokenizer().is_special(id) && std::ranges::find(found, token) == found.end())
      found.push_back(std::move(token));
  }
  return found;
}

std::string ChatModel::prompt_text(const Dialogue& dialogue) const {
  return template_.render(dialogue.messages(), chat_options(dialogue.conversation()));
}

std::vector<int32_t> ChatModel::prompt_tokens(const Dialogue& dialogue,
                                              const ChatSettings& settings) const {
  std::vector<int32_t> tokens = tokenizer().encode(prompt_text(dialogue), false);
  if (tokens.empty()) throw Error(ErrorKind::usage, "the chat template wrote nothing", name_);
  const int64_t most = context(settings);
  if (std::ssize(tokens) > most) {
    throw Error(ErrorKind::usage,
                "the conversation has " + std::to_string(tokens.size()) +
                    " tokens, more than the context of " + std::to_string(most),
                name_,
                most < model().config().max_positions
                    ? "take a larger context, or a shorter conversation"
                    : "the model looks no further; take messages back or begin a new conversation");
  }
  return tokens;
}

bool ChatModel::ends(int32_t token) const {
  return std::ranges::find(end_tokens_, token) != end_tokens_.end();
}

Answer ChatModel::answer(const Dialogue& dialogue, const ChatSettings& settings,
                         const AnswerListener& listener, const StopToken& stop) {
  check_chat_settings(settings);
  Answer answer;
  answer.seed = settings.sampling.seed;
  const std::string text = prompt_text(dialogue);
  answer.prompt = prompt_tokens(dialogue, settings);
  Writer writer(*this, answer.prompt, text, settings, listener, answer);
  try {
    generate(answer, settings, writer, listener, stop);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::interrupted) throw;
    answer.finish = FinishReason::cut;
  }
  writer.finish();
  return answer;
}

void ChatModel::generate(Answer& answer, const ChatSettings& settings, Writer& writer,
                         const AnswerListener& listener, const StopToken& stop) {
  const int64_t most = context(settings);
  const auto begin = AnswerClock::now();
  auto first = begin;
  Sampler sampler(settings.sampling);
  std::vector<float> logits = sequence_->read(answer.prompt, stop);
  answer.reused = sequence_->reused();
  while (true) {
    const int32_t token = sampler.next(logits, sequence_->tokens());
    const auto now = AnswerClock::now();
    if (answer.tokens.empty()) first = now;
    answer.prefill_seconds = seconds_between(begin, first);
    answer.decode_seconds = seconds_between(first, now);
    const bool over = !settings.ignore_eos && ends(token);
    if (over) {
      answer.end_token = token;
      answer.finish = FinishReason::eos;
      return;
    }
    if (listener.on_token) listener.on_token(token);
    answer.tokens.push_back(token);
    if (!writer.put(token)) {
      answer.finish = FinishReason::stop;
      return;
    }
    if (std::ssize(answer.tokens) == settings.max_tokens) {
      answer.finish = FinishReason::length;
      return;
    }
    if (std::ssize(sequence_->tokens()) == most) {  // the last token needs no place
      answer.finish = FinishReason::context;
      return;
    }
    stop.check();
    logits = sequence_->append(token, stop);
  }
}

std::vector<double> ChatModel::probabilities_at(const Answer& answer, int64_t index,
                                                const StopToken& stop) {
  const int64_t length = std::ssize(answer.prompt) + index;
  const std::vector<int32_t>& tokens = sequence_->tokens();
  const bool last = index >= 0 && length <= std::ssize(tokens) &&
                    std::equal(answer.prompt.begin(), answer.prompt.end(), tokens.begin()) &&
                    index <= std::ssize(answer.tokens) &&
                    std::equal(answer.tokens.begin(), answer.tokens.begin() + index,
                               tokens.begin() + std::ssize(answer.prompt));
  if (!last) throw Error(ErrorKind::usage, "the model has gone on since that answer", name_);
  const std::vector<float> logits = sequence_->back_to(length, stop);
  SamplingSettings plain;
  plain.temperature = 1;
  return Sampler(plain).distribution(logits, {});
}

}  // namespace qwb
