#include "tools/chat/commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/base/text_file.h"
#include "lib/report/clean_text.h"

namespace qwb {
namespace {

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

template <class Number>
Number whole_number(const std::string& text, const char* what) {
  Number value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end)
    throw Error(ErrorKind::usage, "'" + text + "' is no whole number from 0", what);
  return value;
}

bool on_or_off(const std::string& text, const char* command) {
  if (same_name(text, "on")) return true;
  if (same_name(text, "off")) return false;
  throw Error(ErrorKind::usage, std::string(command) + " takes on or off");
}

std::string needed(const std::string& argument, const char* usage) {
  if (argument.empty()) throw Error(ErrorKind::usage, std::string("give ") + usage);
  return argument;
}

// A value as it is typed: what is no JSON is a text.
Json typed_value(const std::string& text) {
  const Json value = Json::parse(text, nullptr, false);
  return value.is_number() || value.is_boolean() ? value : Json(text);
}

}  // namespace

const std::vector<ChatCommands::Command>& ChatCommands::all() {
  using C = ChatCommands;
  static const std::vector<Command> commands = {
      {"/help /?", "", "this list", &C::help},
      {"/regen", "[SEED]", "make the last answer again, with the next seed", &C::regenerate},
      {"/edit", "[N]", "write your message N anew, by default the last; what follows it goes",
       &C::edit},
      {"/undo", "", "take your last message back, with its answer", &C::undo},
      {"/clear", "", "begin anew; the system prompt stays", &C::clear},
      {"/show", "", "print the conversation", &C::show},
      {"/read", "FILE", "send the text of a file", &C::read},
      {"/save", "[FILE]", "keep the conversation there, from now on after every answer", &C::save},
      {"/load", "FILE", "go on with a conversation that was saved", &C::load},
      {"/system", "[TEXT]", "show the system prompt, or set it; - takes it out", &C::system},
      {"/set", "[NAME VALUE]", "show the settings, or change one: /set temperature 0.8", &C::set},
      {"/think", "on|off", "let the model think before it answers, or not", &C::think},
      {"/stats", "[on|off]", "sums of this conversation; or tell them after every answer",
       &C::stats},
      {"/model", "[NAME]...", "show the models, or go on with others", &C::model},
      {"/bye /exit /quit", "", "leave; so does Ctrl-D", &C::leave},
  };
  return commands;
}

bool ChatCommands::run(const std::string& line) {
  const size_t blank = std::min(line.find_first_of(" \t\n"), line.size());
  const std::string name = line.substr(0, blank);
  const size_t begin = std::min(line.find_first_not_of(" \t\n", blank), line.size());
  std::string arguments = line.substr(begin);
  arguments.erase(arguments.find_last_not_of(" \t\n") + 1);
  std::vector<std::string> names;
  for (const Command& command : all()) {
    for (const std::string& known : words_of(command.names)) {
      names.push_back(known);
      if (!same_name(name, known)) continue;
      (this->*command.work)(arguments);
      return !over_;
    }
  }
  const auto near = nearest_name(name, names);
  throw Error(ErrorKind::usage, "there is no command " + name, {},
              (near ? "did you mean " + *near + "? " : std::string()) +
                  "/help lists them; a message that begins with / needs a blank before it");
}

void ChatCommands::help(const std::string& /*arguments*/) {
  std::string text;
  for (const Command& command : all())
    text += fmt::format("  {:<28} {}\n", std::string(command.names) + " " + command.arguments,
                        command.help);
  text +=
      "  \"\"\"                          begins and ends a message of several lines\n"
      "  Ctrl-C                       stops an answer and keeps what came; clears the line\n";
  tool_.print(text);
}

void ChatCommands::regenerate(const std::string& arguments) {
  const uint64_t seed = session_.settings().sampling.seed;
  session_.regenerate(arguments.empty() ? seed + 1 : whole_number<uint64_t>(arguments, "seed"));
}

void ChatCommands::edit(const std::string& arguments) {
  const int64_t last = session_.first().questions();
  const auto number = arguments.empty() ? last : whole_number<int64_t>(arguments, "/edit");
  if (number < 1 || number > last) {
    throw Error(ErrorKind::usage,
                last == 0 ? "there is no message to edit"
                          : fmt::format("there is no message {}; there are {}", number, last));
  }
  const std::optional<std::string> text = ask_(session_.first().question(number));
  if (text) session_.edit(number, *text);
}

void ChatCommands::undo(const std::string& /*arguments*/) {
  tool_.note("taken back: " + report::clean_text(session_.undo()));
}

void ChatCommands::clear(const std::string& /*arguments*/) {
  session_.clear();
  tool_.note("a new conversation");
}

void ChatCommands::show(const std::string& /*arguments*/) {
  const Dialogue& dialogue = session_.first();
  std::string text;
  int64_t question = 0;
  for (size_t i = 0; i < dialogue.messages().size(); ++i) {
    const Json& message = dialogue.messages()[i];
    const std::string role = json_string(message, "role", "message", "?");
    Conversation one;
    one.messages.push_back(message);
    text += role == "user" ? fmt::format("[{}] user", ++question) : role;
    text += ": " + report::clean_lines(conversation_text(one));
    text += dialogue.is_cut(i) ? " [cut]\n" : "\n";
  }
  tool_.print(text.empty() ? "nothing so far\n" : text);
}

void ChatCommands::read(const std::string& arguments) {
  session_.say(read_text_file(needed(arguments, "the FILE to read")));
}

void ChatCommands::save(const std::string& arguments) {
  if (arguments.empty() && session_.place().empty())
    throw Error(ErrorKind::usage, "give the FILE to write");
  session_.save_as(arguments.empty() ? session_.place() : arguments);
  tool_.note("kept in " + session_.place());
}

void ChatCommands::load(const std::string& arguments) {
  session_.load(needed(arguments, "the FILE to read"));
  tool_.note(fmt::format("{} messages", session_.first().messages().size()));
}

void ChatCommands::system(const std::string& arguments) {
  if (arguments.empty()) {
    const auto text = session_.first().system();
    tool_.print(text ? report::clean_lines(*text) + "\n" : "there is no system prompt\n");
    return;
  }
  session_.set_system(arguments == "-" ? "" : arguments);
}

void ChatCommands::set(const std::string& arguments) {
  if (arguments.empty()) {
    std::string text;
    const Json all_settings = chat_settings_json(session_.settings());
    for (const auto& [name, value] : all_settings.items())
      text += fmt::format("  {:<20} {}\n", name, value.dump());
    tool_.print(text);
    return;
  }
  const size_t blank = std::min(arguments.find_first_of(" \t"), arguments.size());
  std::string name = lower_case(arguments.substr(0, blank));
  std::ranges::replace(name, '-', '_');
  const size_t begin = std::min(arguments.find_first_not_of(" \t", blank), arguments.size());
  const std::string value = arguments.substr(begin);
  Json change = {{name, typed_value(value)}};
  if (name == "stop") change[name] = value.empty() ? Json::array() : Json::array({value});
  ChatSettings changed = session_.settings();
  read_chat_settings(change, changed, "/set");
  for (const Speaker& speaker : session_.speakers()) speaker.model->context(changed);
  session_.settings() = changed;
}

void ChatCommands::think(const std::string& arguments) {
  session_.set_thinking(on_or_off(arguments, "/think"));
}

void ChatCommands::stats(const std::string& arguments) {
  if (arguments.empty()) return tool_.print(session_.totals().text() + "\n");
  session_.show_stats(on_or_off(arguments, "/stats"));
}

void ChatCommands::model(const std::string& arguments) {
  if (!arguments.empty()) session_.take_models(words_of(arguments));
  for (const Speaker& speaker : session_.speakers()) {
    tool_.print(fmt::format("{}, {} tokens of context\n", report::clean_text(speaker.model->name()),
                            speaker.model->context(session_.settings())));
  }
}

void ChatCommands::leave(const std::string& /*arguments*/) {
  over_ = true;
}

}  // namespace qwb
