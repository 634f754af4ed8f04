#include "tools/chat/session.h"

#include <system_error>
#include <utility>

#include "lib/adapt/use.h"
#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/text_file.h"
#include "tools/common/bits_flag.h"

namespace qwb {
namespace {

std::string text_of_option(const std::string& text, const std::string& file) {
  if (file.empty()) return text;
  std::string from_file = read_text_file(file);
  if (from_file.ends_with('\n')) from_file.pop_back();
  return from_file;
}

Json read_tools_file(const std::string& file) {
  const std::string text = read_text_file(file);
  if (!parse_json(text, file).is_array())
    throw Error(ErrorKind::failed, "the tools are not a list", file);
  return parse_conversation(R"({"messages": [], "tools": )" + text + "}", file).tools;
}

}  // namespace

bool same_file(const std::string& a, const std::string& b) {
  std::error_code error;
  return !a.empty() && !b.empty() && std::filesystem::equivalent(a, b, error) && !error;
}

ChatSession::ChatSession(const ChatOptions& options, bool interactive, Tool& tool)
    : options_(options),
      interactive_(interactive),
      tool_(tool),
      settings_(options.settings),
      view_(tool, options.hide_thinking),
      stats_(options.stats || (interactive && !tool.quiet())) {
  place_ = options_.save;
  if (!place_.empty()) {
    const bool goes_on = same_file(options_.load, place_);
    if (!options_.load.empty() && !goes_on) tool.reads(options_.load);
    if (!goes_on) place_ = tool.outputs().file(place_, "--save", is_chat_file).string();
  }
  for (const std::string& name : options_.models) speakers_.push_back(open(name));
  take_conversation();
  if (stats_ || options_.energy || tool.json()) {
    EnergyOptions meters;
    apply_meter_flags(options_.meter, meters);
    meter_.emplace(meters, options_.energy);
  }
}

Speaker ChatSession::open(const std::string& name) {
  const Context& context = tool_.context();
  const ChosenArtifact chosen = model_to_run(name, options_.bits, context);
  const Int8Forward forward = chosen_int8_forward(options_.int8);
  LoadedModel loaded =
      load_model(chosen.folder,
                 {.executor = make_executor(forward, context.threads),
                  .hold = chosen.lease,
                  .attach = adapters_to_attach(parse_adapter_uses(options_.adapters))},
                 context);
  require_int8_modules(*loaded.model, forward, chosen.folder.string());
  std::string shown = name.empty() ? chosen.folder.string() : name;
  for (const std::string& adapter : options_.adapters) shown += " + " + adapter;
  if (options_.bits > 0) shown += " (" + std::to_string(options_.bits) + " bits)";
  Speaker speaker;
  speaker.model = std::make_unique<ChatModel>(std::move(shown), std::move(loaded));
  speaker.model->context(settings_);
  return speaker;
}

// The conversation of the command line, for every model.
void ChatSession::take_conversation() {
  if (!options_.load.empty()) {
    take_saved(parse_chat(read_text_file(options_.load), options_.load), options_.load);
    read_chat_settings(options_.given, settings_, "the command line");
  }
  const Json tools = options_.tools.empty() ? Json() : read_tools_file(options_.tools);
  for (Speaker& speaker : speakers_) {
    if (options_.has_system)
      speaker.dialogue.set_system(text_of_option(options_.system, options_.system_file));
    if (!options_.tools.empty()) speaker.dialogue.set_tools(tools);
    if (options_.think)
      speaker.dialogue.set_variable(speaker.model->thinking_variable(), *options_.think);
    speaker.model->check_shown(speaker.dialogue);
  }
}

void ChatSession::take_saved(const SavedChat& chat, const std::string& where) {
  const size_t parts = chat.parts.size();
  if (parts != 1 && parts != speakers_.size()) {
    throw Error(ErrorKind::usage, "holds the conversations of " + std::to_string(parts) + " models",
                where, "give as many --model");
  }
  ChatSettings settings = options_.settings;
  read_chat_settings(chat.settings, settings, where);
  for (Speaker& speaker : speakers_) speaker.model->context(settings);
  settings_ = settings;
  for (size_t i = 0; i < speakers_.size(); ++i)
    speakers_[i].dialogue = chat.parts[parts == 1 ? 0 : i].dialogue;
}

void ChatSession::show_stats(bool on) {
  stats_ = on;
}

void ChatSession::say(const std::string& text) {
  warn_of_special_tokens(text);
  std::vector<Dialogue> before;
  for (Speaker& speaker : speakers_) {
    before.push_back(speaker.dialogue);
    speaker.dialogue.ask(text);
  }
  answer_or_take_back(std::move(before));
}

void ChatSession::warn_of_special_tokens(const std::string& text) {
  std::string found;
  for (const std::string& token : speakers_.front().model->special_tokens_in(text))
    found += (found.empty() ? "" : ", ") + token;
  if (!found.empty())
    tool_.note("your message spells special tokens, which the model reads as such: " + found);
}

void ChatSession::answer() {
  std::vector<Dialogue> before;
  for (const Speaker& speaker : speakers_) before.push_back(speaker.dialogue);
  answer_or_take_back(std::move(before));
}

void ChatSession::change_all(const Change& change) {
  std::vector<Dialogue> before;
  for (Speaker& speaker : speakers_) {
    before.push_back(speaker.dialogue);
    change(speaker.dialogue);
  }
  answer_or_take_back(std::move(before));
}

void ChatSession::regenerate(uint64_t seed) {
  if (first().questions() == 0) throw Error(ErrorKind::usage, "there is no answer to make again");
  settings_.sampling.seed = seed;
  if (settings_.sampling.temperature == 0)
    tool_.note("greedy answers do not depend on the seed; /set temperature 0.8 draws at random");
  change_all([](Dialogue& dialogue) { dialogue.take_back_answer(); });
}

void ChatSession::edit(int64_t number, const std::string& text) {
  warn_of_special_tokens(text);
  change_all([&](Dialogue& dialogue) { dialogue.edit(number, text); });
}

// All models answer; `before`: what becomes of a conversation whose answer did not come.
void ChatSession::answer_or_take_back(std::vector<Dialogue> before) {
  std::vector<Answer> answers(speakers_.size());
  const Answer* base = nullptr;
  for (size_t i = 0; i < speakers_.size(); ++i) {
    bool came = false;
    try {
      came = answer_one(speakers_[i], speakers_.front(), base, answers[i]);
    } catch (const Error& error) {
      speakers_[i].dialogue = before[i];
      if (!interactive_ || tool_.end_requested()) throw;
      tool_.log_error(error.what());
      continue;
    }
    if (i == 0 && came) base = answers.data();
    if (!came) {
      speakers_[i].dialogue = before[i];
      tool_.note("stopped before the first token: the conversation is as it was");
    }
    if (tool_.end_requested()) break;
    if (interactive_) tool_.forget_ctrl_c();
  }
  save();
}

// False if it was stopped before anything came. The base's answer may be null.
bool ChatSession::answer_one(Speaker& speaker, const Speaker& base, const Answer* base_answer,
                             Answer& answer) {
  std::vector<int32_t> base_tokens;
  if (base_answer != nullptr) {
    base_tokens = base_answer->tokens;
    if (base_answer->end_token) base_tokens.push_back(*base_answer->end_token);
  }
  const bool comparable = base_answer != nullptr && settings_.sampling.temperature == 0;
  view_.begin(speaker.model->name(), speakers_.size() > 1, comparable ? &base_tokens : nullptr);
  if (meter_) meter_->start();
  try {
    answer =
        speaker.model->answer(speaker.dialogue, settings_, view_.listener(), tool_.context().stop);
  } catch (...) {
    if (meter_) meter_->stop();
    throw;
  }
  const AnswerEnergy energy = meter_ ? meter_->stop() : AnswerEnergy();
  const bool cut = answer.finish == FinishReason::cut;
  view_.end(cut);
  if (answer.tokens.empty() && cut) return false;
  speaker.dialogue.answer(answer.content, answer.reasoning, cut);
  std::optional<Comparison> comparison;
  if (base_answer != nullptr && !tool_.context().stop.requested())
    comparison = compare_answers(*base.model, *base_answer, *speaker.model, answer, settings_,
                                 tool_.context().stop);
  totals_.add(answer, energy);
  tell(speaker, answer, energy, comparison);
  return true;
}

void ChatSession::tell(const Speaker& speaker, const Answer& answer, const AnswerEnergy& energy,
                       const std::optional<Comparison>& comparison) {
  const std::string& base = speakers_.front().model->name();
  if (tool_.json()) {
    Json line = {{"schema", 1}, {"event", "answer"}, {"model", speaker.model->name()}};
    line.update(answer_json(answer, energy));
    line["settings"] = chat_settings_json(settings_);
    if (comparison) line["comparison"] = comparison_json(*comparison, base);
    tool_.print(line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  if (comparison) tool_.note(comparison_text(*comparison, base));
  const std::string ending = ending_text(answer);
  if (!ending.empty()) tool_.note(ending);
  if (stats_) {
    tool_.note(stats_text(answer, energy));
  } else if (options_.energy) {
    tool_.note(energy_text(energy));
  }
}

std::string ChatSession::undo() {
  std::string text;
  bool any = false;
  for (Speaker& speaker : speakers_) {
    const auto taken = speaker.dialogue.undo();
    if (taken && !any) text = *taken;
    any = any || taken.has_value();
  }
  if (!any) throw Error(ErrorKind::usage, "there is no message to take back");
  save();
  return text;
}

void ChatSession::clear() {
  for (Speaker& speaker : speakers_) speaker.dialogue.clear();
  save();
}

void ChatSession::set_system(const std::string& text) {
  std::vector<Dialogue> changed;
  for (const Speaker& speaker : speakers_) {
    changed.push_back(speaker.dialogue);
    changed.back().set_system(text);
    speaker.model->check_shown(changed.back());
  }
  for (size_t i = 0; i < speakers_.size(); ++i) speakers_[i].dialogue = std::move(changed[i]);
  save();
}

void ChatSession::set_thinking(bool on) {
  std::vector<std::string> names;
  for (const Speaker& speaker : speakers_) names.push_back(speaker.model->thinking_variable());
  for (size_t i = 0; i < speakers_.size(); ++i) speakers_[i].dialogue.set_variable(names[i], on);
}

void ChatSession::take_models(const std::vector<std::string>& names) {
  std::vector<Speaker> opened;
  for (const std::string& name : names) {
    opened.push_back(open(name));
    opened.back().dialogue = first();
    opened.back().model->check_shown(first());
  }
  speakers_ = std::move(opened);
}

void ChatSession::load(const std::string& file) {
  take_saved(parse_chat(read_text_file(file), file), file);
  if (first().waits()) answer();
}

void ChatSession::save_as(const std::string& file) {
  std::error_code ignored;
  if (std::filesystem::exists(file, ignored) && !same_file(file, place_) &&
      !same_file(file, options_.load)) {
    throw Error(ErrorKind::usage, "there is such a file already", file, "choose another name");
  }
  const std::string before = std::exchange(place_, file);
  try {
    save();
  } catch (...) {
    place_ = before;
    throw;
  }
}

void ChatSession::save() const {
  if (place_.empty()) return;
  SavedChat chat;
  for (const Speaker& speaker : speakers_)
    chat.parts.push_back({speaker.model->name(), speaker.dialogue});
  chat.settings = chat_settings_json(settings_);
  const std::string text = chat_text(chat);
  write_file_atomically(place_, as_bytes(text));
}

}  // namespace qwb
