// The section "Options" of a page.
#include "lib/base/error.h"
#include "tools/manual/manual.h"

namespace qwb {
namespace {

constexpr const char* kOptionsHeading = "\n## Options\n";
constexpr const char* kMade =
    "<!-- Made from the declaration; do not edit. After a change: tools/manual/update.sh -->\n";

std::string code(const std::string& text) {
  return "`" + text + "`";
}

// "name: what it is" lines of a help become a list of their own.
std::string help_lines(const std::string& help) {
  std::string text;
  for (size_t begin = 0; begin <= help.size();) {
    const size_t end = std::min(help.find('\n', begin), help.size());
    const std::string line = help.substr(begin, end - begin);
    text += begin == 0 ? line : "\n  - " + line;
    begin = end + 1;
  }
  return text;
}

std::string option_item(const DeclaredOption& option) {
  std::string text = "- " + code(option_title(option)) + ": " + help_lines(option.help);
  const bool list = option.help.find('\n') != std::string::npos;
  if (option.required) text += list ? "\n  - (required)" : " (required)";
  if (!option.fallback.empty())
    text += (list ? "\n  - default: " : " [") + option.fallback + (list ? "" : "]");
  return text + "\n";
}

std::string option_lists(const Declaration& declaration) {
  std::string text;
  if (!declaration.positionals.empty()) text += "\n";
  for (const DeclaredOption& option : declaration.positionals) text += option_item(option);
  for (const std::string& group : group_names(declaration.options)) {
    text += group == "Options" ? "\n" : "\n" + group + ":\n\n";
    for (const DeclaredOption& option : declaration.options) {
      if (option.group == group) text += option_item(option);
    }
  }
  return text;
}

// The options of the tool itself stand once, not under each of its commands.
Declaration own_options(const Declaration& command, const Declaration& tool) {
  Declaration own = command;
  std::erase_if(own.options, [&](const DeclaredOption& option) {
    return std::any_of(tool.options.begin(), tool.options.end(),
                       [&](const DeclaredOption& common) { return common.names == option.names; });
  });
  return own;
}

}  // namespace

std::string page_with_options(const std::string& page, const Declaration& declaration) {
  const size_t heading = page.find(kOptionsHeading);
  if (heading == std::string::npos)
    throw Error(ErrorKind::failed, "the page has no section \"## Options\"", declaration.name);
  const size_t begin = heading + std::string(kOptionsHeading).size();
  const size_t end = std::min(page.find("\n## ", begin), page.size());
  std::string text = page.substr(0, begin) + "\n" + kMade + option_lists(declaration);
  for (const Declaration& command : declaration.commands) {
    text += "\n### " + command.name + "\n\n" + command.summary + ".\n";
    text += option_lists(own_options(command, declaration));
  }
  return text + page.substr(end);
}

}  // namespace qwb
