#include <fmt/format.h>

#include <algorithm>

#include "tools/manual/completions.h"

namespace qwb {
namespace {

std::string fish_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text)
    out += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return out + "'";
}

std::string value_arguments(const DeclaredOption& option) {
  if (option.value.empty()) return {};
  std::string text = option.paths ? " -r -F" : " -x";
  if (!option.words.empty())
    text += " -a " + fish_quoted(fmt::format("{}", fmt::join(option.words, " ")));
  return text;
}

// --symmetric and --asymmetric mean different things; -q and --quiet do not. Fish completes either.
std::string option_line(const std::string& begin, const DeclaredOption& option) {
  std::string names;
  for (const std::string& name : option.names)
    names += name.rfind("--", 0) == 0 ? " -l " + name.substr(2) : " -s " + name.substr(1);
  return begin + names + value_arguments(option) + " -d " + fish_quoted(short_help(option)) + "\n";
}

std::string options_of(const Declaration& d, const std::string& begin) {
  std::string text;
  for (const DeclaredOption& option : d.options) text += option_line(begin, option);
  bool paths = false;
  for (const DeclaredOption& option : d.positionals) {
    paths = paths || option.paths;
    if (!option.words.empty())
      text += begin + " -a " + fish_quoted(fmt::format("{}", fmt::join(option.words, " "))) + "\n";
  }
  return text + (paths ? begin + " -F\n" : begin + " -f\n");
}

}  // namespace

std::string fish_completion(const Declaration& d) {
  std::string text = "# Completion of " + d.name + " for fish, made from its declaration.\n";
  const std::string begin = "complete -c " + d.name;
  if (d.commands.empty()) return text + options_of(d, begin);
  std::vector<std::string> names;
  for (const Declaration& command : d.commands) names.push_back(command.name);
  const std::string seen = fmt::format("__fish_seen_subcommand_from {}", fmt::join(names, " "));
  text += options_of(d, begin + " -n 'not " + seen + "'");
  for (const Declaration& command : d.commands) {
    text += begin + " -n 'not " + seen + "' -a " + command.name + " -d " +
            fish_quoted(command.summary) + "\n";
    text += options_of(command, begin + " -n '__fish_seen_subcommand_from " + command.name + "'");
  }
  return text;
}

}  // namespace qwb
