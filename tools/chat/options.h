// The command line of qwb-chat.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lib/jobs/chat/dialogue.h"
#include "tools/common/int8_flags.h"
#include "tools/common/meter_flags.h"

namespace qwb {

struct ChatOptions {
  std::vector<std::string> models;  // as they were named; one empty name: whatever is chosen
  std::vector<std::string> words;   // positions: "-"
  std::string prompt, file, system, system_file, load, save, tools;
  std::optional<bool> think;  // --think, --no-think; neither: the template's own way
  int bits = 0;
  ChatSettings settings;
  Json given = Json::object();  // the settings that were typed
  bool think_flag = false, hide_thinking = false, stats = false, energy = false, no_history = false;
  std::vector<std::string> adapters;  // beside every model
  Int8Flags int8;
  MeterFlags meter;
  bool has_prompt = false, has_system = false;  // was typed, if only as an empty text
};

void add_chat_options(CLI::App& app, ChatOptions& options);
// Sorts out what was typed. Throws usage for flags that do not go together.
void take_chat_options(const CLI::App& app, ChatOptions& options);

}  // namespace qwb
