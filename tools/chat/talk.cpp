#include "tools/chat/talk.h"

#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/error.h"
#include "tools/chat/commands.h"
#include "tools/chat/input_history.h"
#include "tools/chat/line_reader.h"
#include "tools/chat/session.h"
#include "tools/common/standard_input.h"

namespace qwb {
namespace {

constexpr const char* kPrompt = "> ";
constexpr const char* kMorePrompt = "... ";
constexpr std::string_view kQuotes = "\"\"\"";

class Talk {
 public:
  Talk(const ChatOptions& options, Tool& tool)
      : tool_(tool),
        session_(options, true, tool),
        history_(options.no_history ? Path() : history_file()),
        input_(tool),
        reader_(make_line_reader(input_, tool)),
        commands_(
            session_, [this](const std::string& begun) { return ask(begun); }, tool) {
    if (!options.no_history) {
      for (const std::string& text : history_.texts()) reader_->remember(text);
    }
  }

  void run() {
    for (const Speaker& speaker : session_.speakers())
      tool_.note(fmt::format("{}, {} tokens of context", speaker.model->name(),
                             speaker.model->context(session_.settings())));
    tool_.note("/help lists the commands, Ctrl-D leaves");
    if (session_.first().waits()) session_.answer();
    while (step()) {
    }
  }

 private:
  bool step() {
    const TypedLine message = read_message(kPrompt, {});
    if (tool_.end_requested()) tool_.context().stop.check();
    switch (message.kind) {
      case TypedLine::Kind::end:
        return false;
      case TypedLine::Kind::interrupted:
        tool_.forget_ctrl_c();
        return interrupted(!message.text.empty());
      case TypedLine::Kind::text:
        break;
    }
    warned_ = false;
    if (message.text.find_first_not_of(" \t\n") == std::string::npos) return true;
    keep(message.text);
    try {
      if (message.text.front() == '/' && !message.pasted) return commands_.run(message.text);
      session_.say(message.text);
    } catch (const Error& error) {
      if (tool_.end_requested()) throw;
      tool_.log_error(error.what());
      tool_.forget_ctrl_c();
    }
    return true;
  }

  // Ctrl-C at a line that was empty: the second time in a row leaves.
  bool interrupted(bool cleared) {
    if (!cleared && warned_) return false;
    warned_ = !cleared;
    if (warned_) tool_.note("Ctrl-C once more leaves; so do Ctrl-D and /bye");
    return true;
  }

  // A line, a paste, or the lines between two """.
  TypedLine read_message(const std::string& prompt, const std::string& begun) {
    TypedLine message = reader_->read(prompt, begun);
    if (message.kind != TypedLine::Kind::text || !message.text.starts_with(kQuotes)) return message;
    message.text.erase(0, kQuotes.size());
    message.pasted = true;  // no command, whatever it begins with
    while (!ends_quoted(message.text)) {
      const TypedLine more = reader_->read(kMorePrompt, {});
      if (more.kind != TypedLine::Kind::text)
        return {.kind = more.kind, .text = more.kind == TypedLine::Kind::end ? "" : kMorePrompt};
      message.text += "\n" + more.text;
    }
    message.text.resize(message.text.find_last_of('"') + 1 - kQuotes.size());
    if (message.text.starts_with('\n')) message.text.erase(0, 1);
    if (message.text.ends_with('\n')) message.text.pop_back();
    return message;
  }

  static bool ends_quoted(const std::string& text) {
    return std::string_view(text).substr(0, text.find_last_not_of(" \t\n") + 1).ends_with(kQuotes);
  }

  // The text that takes the place of another.
  std::optional<std::string> ask(const std::string& begun) {
    if (!reader_->edits()) tool_.print(begun + "\n");
    const TypedLine line = read_message("edit> ", begun);
    if (line.kind == TypedLine::Kind::interrupted) tool_.forget_ctrl_c();
    const bool nothing = line.kind != TypedLine::Kind::text || line.text.empty();
    if (nothing) tool_.note("left as it was");
    return nothing ? std::nullopt : std::optional(line.text);
  }

  void keep(const std::string& text) {
    reader_->remember(text);
    try {
      history_.add(text);
    } catch (const Error& error) {
      tool_.note_once(std::string("what you type is not kept: ") + error.what());
    }
  }

  Tool& tool_;
  ChatSession session_;
  InputHistory history_;
  TerminalInput input_;
  std::unique_ptr<LineReader> reader_;
  ChatCommands commands_;
  bool warned_ = false;
};

// -p, -f and standard input, in this order, with a blank line between them.
std::optional<std::string> prompt_of(const ChatOptions& o, Tool& tool) {
  std::optional<std::string> prompt;
  const auto add = [&](const std::string& text) {
    prompt = prompt ? *prompt + "\n\n" + text : text;
  };
  if (o.has_prompt) add(o.prompt);
  if (!o.file.empty()) add(read_prompt_file(o.file, tool.context().stop));
  const bool piped = !prompt && o.load.empty() && !is_terminal(STDIN_FILENO);
  if (!o.words.empty() || piped) add(read_prompt_file("-", tool.context().stop));
  return prompt;
}

}  // namespace

void talk(const ChatOptions& options, Tool& tool) {
  tool.keep_running_at_ctrl_c();
  Talk(options, tool).run();
}

void answer_once(const ChatOptions& options, Tool& tool) {
  const std::optional<std::string> prompt = prompt_of(options, tool);
  if (prompt && prompt->empty()) throw Error(ErrorKind::usage, "the prompt is empty");
  ChatSession session(options, false, tool);
  if (prompt) {
    session.say(*prompt);
  } else if (session.first().waits()) {
    session.answer();
  } else {
    throw Error(ErrorKind::usage, "no prompt", {},
                "give -p TEXT, -f FILE, or - for standard input; on a terminal without any of them "
                "you talk");
  }
  tool.context().stop.check();
}

}  // namespace qwb
