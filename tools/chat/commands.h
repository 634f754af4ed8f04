// What begins with "/" in a conversation.
#pragma once

#include <functional>
#include <string>

#include "tools/chat/session.h"
#include "tools/common/tool.h"

namespace qwb {

// Asks for a text on the terminal, beginning with this one; nothing if the user thinks better of
// it.
using AskText = std::function<std::optional<std::string>(const std::string& begun)>;

class ChatCommands {
 public:
  ChatCommands(ChatSession& session, AskText ask, Tool& tool)
      : session_(session), ask_(std::move(ask)), tool_(tool) {}

  // Runs "/NAME ARGUMENTS". False: the conversation is over. Throws usage for a command that there
  // is not, and what the command's work throws.
  bool run(const std::string& line);

  struct Command {
    const char* names;      // "/help /?"
    const char* arguments;  // "[N]"
    const char* help;
    void (ChatCommands::*work)(const std::string& arguments);
  };
  static const std::vector<Command>& all();

 private:
  void help(const std::string& arguments);
  void regenerate(const std::string& arguments);
  void edit(const std::string& arguments);
  void undo(const std::string& arguments);
  void clear(const std::string& arguments);
  void show(const std::string& arguments);
  void read(const std::string& arguments);
  void save(const std::string& arguments);
  void load(const std::string& arguments);
  void system(const std::string& arguments);
  void set(const std::string& arguments);
  void think(const std::string& arguments);
  void stats(const std::string& arguments);
  void model(const std::string& arguments);
  void leave(const std::string& arguments);

  ChatSession& session_;
  AskText ask_;
  Tool& tool_;
  bool over_ = false;
};

}  // namespace qwb
