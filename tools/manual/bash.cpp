#include <fmt/format.h>

#include <algorithm>

#include "tools/manual/completions.h"

namespace qwb {
namespace {

std::string bash_words(const std::vector<std::string>& words) {
  return fmt::format("'{}'", fmt::join(words, " "));
}

std::string bash_function(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return "_" + name;
}

std::string value_line(const DeclaredOption& option) {
  std::string line = option.words.empty() ? "" : "words=" + bash_words(option.words);
  if (option.paths) line += std::string(line.empty() ? "" : " ") + "paths=yes";
  return line.empty() ? "return" : line;
}

// One branch of the case for each option that takes a value.
std::string value_cases(const Declaration& d) {
  std::string text;
  for (const DeclaredOption& option : d.options) {
    if (!option.value.empty())
      text += fmt::format("    {}) {} ;;\n", fmt::join(option.names, " | "), value_line(option));
  }
  return text;
}

std::vector<std::string> flag_words(const Declaration& d) {
  std::vector<std::string> words;
  for (const DeclaredOption& option : d.options)
    words.insert(words.end(), option.names.begin(), option.names.end());
  return words;
}

// What may stand where no flag does.
std::string positional_line(const Declaration& d) {
  std::vector<std::string> words;
  bool paths = false;
  for (const Declaration& command : d.commands) words.push_back(command.name);
  for (const DeclaredOption& option : d.positionals) {
    words.insert(words.end(), option.words.begin(), option.words.end());
    paths = paths || option.paths;
  }
  std::string line = words.empty() ? "" : "words=" + bash_words(words);
  if (paths) line += std::string(line.empty() ? "" : " ") + "paths=yes";
  return line.empty() ? "return" : line;
}

std::string dispatch(const Declaration& d, const std::string& function) {
  if (d.commands.empty()) return {};
  std::string text =
      "    local word\n    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n        case $word "
      "in\n";
  for (const Declaration& command : d.commands)
    text += fmt::format("        {}) {}; return ;;\n", command.name, function + "_" + command.name);
  return text + "        esac\n    done\n";
}

std::string bash_of(const Declaration& d, const std::string& function) {
  std::string text;
  for (const Declaration& command : d.commands)
    text += bash_of(command, function + "_" + command.name);
  text += function + "() {\n" + dispatch(d, function);
  // "=" is a word of its own: --method=gp is "--method", "=", "gp".
  text +=
      "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words='' paths=''\n"
      "    if [[ $cur == = ]]; then\n        cur=''\n"
      "    elif [[ $prev == = ]] && ((COMP_CWORD > 2)); then\n        "
      "prev=${COMP_WORDS[COMP_CWORD-2]}\n    "
      "fi\n"
      "    COMPREPLY=()\n    case $prev in\n";
  text += value_cases(d);
  text +=
      "    *)\n        if [[ $cur == -* ]]; then\n            words=" + bash_words(flag_words(d)) +
      "\n        else\n            " + positional_line(d) + "\n        fi ;;\n    esac\n";
  text +=
      "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
      "    if [[ $paths ]]; then\n"
      "        compopt -o filenames 2>/dev/null\n"
      "        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- \"$cur\")\n"
      "    elif [[ ${COMPREPLY[*]} == *= ]]; then\n"
      "        compopt -o nospace 2>/dev/null\n"
      "    fi\n}\n";
  return text;
}

}  // namespace

std::string bash_completion(const Declaration& d) {
  const std::string function = bash_function(d.name);
  return "# Completion of " + d.name + " for bash, made from its declaration.\n" +
         bash_of(d, function) + "complete -F " + function + " " + d.name + "\n";
}

}  // namespace qwb
