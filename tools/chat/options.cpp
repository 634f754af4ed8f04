#include "tools/chat/options.h"

#include "lib/base/error.h"
#include "tools/common/adapter_flags.h"
#include "tools/common/bits_flag.h"
#include "tools/common/number_checks.h"
#include "tools/common/sampling_flags.h"

namespace qwb {
namespace {

void add_prompt_options(CLI::App& app, ChatOptions& o) {
  app.add_option("INPUT", o.words,
                 "-: read the prompt from standard input; it goes behind that of -p and -f")
      ->type_name("");
  app.add_option("-p,--prompt", o.prompt, "Answer this and end")->type_name("TEXT");
  app.add_option("-f,--file", o.file, "Answer the text of this file and end; behind that of -p")
      ->type_name("FILE");
  app.add_option("--system", o.system, "System prompt")->type_name("TEXT");
  app.add_option("--system-file", o.system_file, "System prompt from a file")
      ->type_name("FILE")
      ->excludes("--system");
  app.add_option("--load", o.load,
                 "Go on with this conversation: a file of --save or /save, or {\"messages\": "
                 "[...]}")
      ->type_name("FILE");
  app.add_option("--save", o.save, "Keep the conversation in this file, after every answer")
      ->type_name("FILE");
  app.add_flag("--think,!--no-think", o.think_flag,
               "Let the model think before it answers, or not (a variable of its chat template)");
  app.add_flag("--hide-thinking", o.hide_thinking,
               "Do not show on the terminal what the model thinks; a pipe never gets it");
  app.add_option("--tools", o.tools,
                 "JSON file with a list of tools for the chat template; the model's calls are "
                 "shown as the text that they are")
      ->type_name("FILE");
}

void add_answer_options(CLI::App& app, ChatOptions& o) {
  app.add_option("--max-tokens", o.settings.max_tokens,
                 "Tokens of an answer at most (default: what is left of the context)")
      ->check(between(1, 0x1p40))
      ->type_name("N");
  app.add_option("--context", o.settings.context,
                 "Tokens that the model may look back on (default: its limit)")
      ->check(between(1, 0x1p31))
      ->type_name("N");
  app.add_option("--stop", o.settings.stop, "End the answer before this text; may be repeated")
      ->type_name("TEXT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_flag("--ignore-eos", o.settings.ignore_eos, "Go on after an end-of-text token");
  add_adapter_flag(app, o.adapters);
  add_int8_flags(app, o.int8);
  app.add_flag("--stats", o.stats,
               "Tell speed, tokens and, where it can be measured, energy of every answer on "
               "stderr; on a terminal without this flag too");
  app.add_flag("--energy", o.energy,
               "Measure the energy of every answer: RAPL (powercap or perf), NVML, --meter, or an "
               "estimate that says so (~)");
  add_meter_flags(app, o.meter);
  app.add_flag("--no-history", o.no_history, "Neither read nor keep what is typed");
}

}  // namespace

void add_chat_options(CLI::App& app, ChatOptions& o) {
  app.add_option("--model", o.models,
                 "Artifact or model (default: the newest artifact in the cache, else $QWB_MODEL, "
                 "else the demo llama); repeated: each answers, and where it departs from the "
                 "first is told")
      ->type_name("MODEL")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_bits_flag(app, o.bits);
  add_prompt_options(app, o);
  add_answer_options(app, o);
  add_sampling_flags(app, o.settings.sampling);
}

void take_chat_options(const CLI::App& app, ChatOptions& o) {
  for (const std::string& word : o.words) {
    if (word == "-") continue;
    throw Error(ErrorKind::usage, "unknown here: " + word.substr(0, 80), {},
                "--model names a model, -p gives a prompt, - reads one from standard input");
  }
  if (o.models.empty()) o.models.emplace_back();
  if (app.count("--think") > 0) o.think = o.think_flag;
  o.has_prompt = app.count("--prompt") > 0;
  o.has_system = app.count("--system") > 0 || app.count("--system-file") > 0;
  check_meter_flags(o.meter, o.energy);
  o.given = given_sampling(app, o.settings.sampling);
  const Json all = chat_settings_json(o.settings);
  for (const auto& [flag, name] : {std::pair{"--max-tokens", "max_tokens"},
                                   {"--context", "context"},
                                   {"--stop", "stop"},
                                   {"--ignore-eos", "ignore_eos"}}) {
    if (app.count(flag) > 0) o.given[name] = all.at(name);
  }
  check_chat_settings(o.settings);
}

}  // namespace qwb
