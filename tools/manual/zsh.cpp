#include <fmt/format.h>

#include "tools/manual/completions.h"

namespace qwb {
namespace {

// Inside of '...'; `special` characters get a backslash.
std::string zsh_quoted(const std::string& text, const std::string& special) {
  std::string out;
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else if (special.find(c) != std::string::npos)
      out += std::string("\\") + c;
    else
      out += c;
  }
  return out;
}

std::string action(const DeclaredOption& option) {
  std::string words;
  for (const std::string& word : option.words)
    words += (words.empty() ? "" : " ") + zsh_quoted(word, "\\:()[]");
  if (words.empty()) return option.paths ? "_files" : " ";
  // Words and files in one completion.
  return option.paths
             ? "{_alternative \"words\\:word\\:(" + words + ")\" \"files\\:file\\:_files\"}"
             : "(" + words + ")";
}

std::string value_part(const DeclaredOption& option) {
  return ":" + zsh_quoted(option.value, "\\:") + ":" + action(option);
}

// "'--method=[how to quantize]:NAME:(rtn gptq)'" for each name of an option.
std::string option_specs(const DeclaredOption& option) {
  std::string text, others;
  for (const std::string& name : option.names) others += (others.empty() ? "" : " ") + name;
  for (const std::string& name : option.names) {
    const bool value = !option.value.empty();
    const std::string before = option.repeated ? "*" : "(" + others + ")";
    const std::string equals = !value ? "" : name.rfind("--", 0) == 0 ? "=" : "+";
    text += fmt::format(" \\\n    '{}{}{}[{}]{}'", before, name, equals,
                        zsh_quoted(short_help(option), "\\[]"), value ? value_part(option) : "");
  }
  return text;
}

std::string all_specs(const Declaration& d) {
  std::string text;
  for (const DeclaredOption& option : d.options) text += option_specs(option);
  for (const DeclaredOption& option : d.positionals)
    text += fmt::format(" \\\n    '{}{}'",
                        option.repeated   ? "*"
                        : option.required ? ""
                                          : ":",
                        value_part(option));
  return text;
}

std::string commands_of(const Declaration& d) {
  std::string text =
      " \\\n    '1: :->command' '*:: :->rest'\n  case $state in\n  command)\n    local -a "
      "commands=(";
  for (const Declaration& command : d.commands)
    text += fmt::format("\n      '{}:{}'", command.name, zsh_quoted(command.summary, "\\:"));
  text += ")\n    _describe -t commands command commands ;;\n  rest)\n    case $words[1] in\n";
  for (const Declaration& command : d.commands)
    text += fmt::format("    {})\n  _arguments -s{} ;;\n", command.name, all_specs(command));
  return text + "    esac ;;\n  esac\n";
}

}  // namespace

std::string zsh_completion(const Declaration& d) {
  std::string text = fmt::format(
      "#compdef {0}\n# Completion of {0} for zsh, made from its declaration.\n_{0}() {{\n", d.name);
  text += "  local curcontext=$curcontext state line\n  typeset -A opt_args\n";
  text += "  _arguments -s" + std::string(d.commands.empty() ? "" : " -C") + all_specs(d);
  text += d.commands.empty() ? "\n" : commands_of(d);
  return text + fmt::format("}}\n_{} \"$@\"\n", d.name);
}

}  // namespace qwb
