// What a tool takes, read off the flags that it declares to CLI11: the one source of manual pages,
// of the options in tools/NAME.md and of completions, so that none of them can drift from what the
// tool does.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "lib/base/json.h"

namespace qwb {

struct DeclaredOption {
  std::vector<std::string>
      names;             // {"-q", "--quiet"} or {"--symmetric", "--asymmetric"}; none: positional
  std::string value;     // "N", "FILE": how the value is called; empty: a flag without one
  std::string help;      // may have several lines
  std::string group;     // "Common"; "Options" where none was given
  std::string fallback;  // the default if the declaration tells it
  bool required = false;
  bool repeated = false;           // may be given several times, or takes several values
  std::vector<std::string> words;  // values to offer, see offer()
  bool paths = false;              // a file or folder can be the value
};

struct Declaration {
  std::string name;  // "qwb-cache", of a subcommand "why"
  std::string summary;
  std::vector<DeclaredOption> options;      // with names
  std::vector<DeclaredOption> positionals;  // without
  std::vector<Declaration> commands;        // whose options include those of the tool
};

// Everything that is not hidden, in the order of --help; the group "Common" comes last.
Declaration declaration_of(CLI::App& app);

// Completions offer these values of `option` (beside paths where its type is a file or a folder).
// An option checked by CLI::IsMember offers its members without this. Changes nothing else.
// offer_name(): the name of a validator by which an option that it checks offers these words.
std::string offer_name(const std::vector<std::string>& words);
void offer(CLI::Option* option, const std::vector<std::string>& words);
// "a, b, c"
void offer_list(CLI::Option* option, const std::string& list);

// "--threads N", "-q, --quiet", "FOLDER..."
std::string option_title(const DeclaredOption& option);
// The first clause of the help, on one line of at most `width` bytes: for completions.
std::string short_help(const DeclaredOption& option, size_t width = 70);
// Groups in the order of their first option.
std::vector<std::string> group_names(const std::vector<DeclaredOption>& options);

// {name, summary, options: [{names, value, help, ...}], positionals, commands}: for tests.
Json declaration_json(const Declaration& declaration);

}  // namespace qwb
