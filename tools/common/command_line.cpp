#include "tools/common/command_line.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "lib/base/names.h"
#include "lib/base/text.h"
#include "tools/manual/declaration.h"

namespace qwb {
namespace {

constexpr size_t kOptionWidth = 30;  // columns of "-q,--quiet", descriptions beside them

// Every option that the word could have been, those of the chosen command first.
std::vector<std::string> flag_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands()) {
    const auto more = flag_names(*command);
    names.insert(names.end(), more.begin(), more.end());
  }
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

// The line in pieces of at most `width` columns, broken at spaces where there are some.
std::vector<std::string> wrapped(const std::string& line, size_t width) {
  std::vector<std::string> lines(1);
  std::istringstream words(line);
  for (std::string word; words >> word;) {
    const auto length = static_cast<size_t>(display_width(lines.back()) + display_width(word));
    if (!lines.back().empty() && length + 1 > width) lines.emplace_back();
    lines.back() += (lines.back().empty() ? "" : " ") + word;
  }
  return lines;
}

// Lines keep the indent of the line that they continue.
std::string wrapped_text(const std::string& text) {
  std::istringstream lines(text);
  std::string out;
  for (std::string line; std::getline(lines, line);) {
    if (static_cast<size_t>(display_width(line)) <= kHelpWidth) {
      out += line + "\n";
      continue;
    }
    const std::string indent(std::min(line.find_first_not_of(' '), kHelpWidth / 2), ' ');
    for (const std::string& piece : wrapped(line, kHelpWidth - indent.size()))
      out += indent + piece + "\n";
  }
  return out;
}

class NarrowFormatter : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    std::string out = "  " + make_option_name(option, is_positional) + make_option_opts(option);
    bool first = static_cast<size_t>(display_width(out)) + 1 < kOptionWidth;
    if (!first) out += "\n";
    std::istringstream paragraphs(make_option_desc(option));
    for (std::string paragraph; std::getline(paragraphs, paragraph);) {
      for (const std::string& line : wrapped(paragraph, kHelpWidth - kOptionWidth)) {
        const size_t used = first ? static_cast<size_t>(display_width(out)) : 0;
        out += std::string(kOptionWidth - used, ' ') + line + "\n";
        first = false;
      }
    }
    if (first) out += "\n";
    return out;
  }
};

}  // namespace

void set_manners(CLI::App& app) {
  app.formatter(std::make_shared<NarrowFormatter>());
  for (CLI::Option* option : app.get_options()) {
    const bool positional = option->get_lnames().empty() && option->get_snames().empty();
    const bool single = option->get_items_expected_max() == 1 && !positional;
    if (single && option->get_multi_option_policy() == CLI::MultiOptionPolicy::Throw)
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
  for (CLI::App* command : app.get_subcommands(nullptr)) set_manners(*command);
}

CLI::Validator one_of(const std::vector<std::string>& words) {
  const auto check = [words](std::string& text) -> std::string {
    for (const std::string& word : words) {
      if (!same_name(word, text)) continue;
      text = word;
      return {};
    }
    std::string all;
    for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
    const auto near = nearest_name(text, words);
    return "'" + text.substr(0, 40) + "' is none of " + all +
           (near ? "; did you mean " + *near + "?" : "");
  };
  CLI::Validator validator(check, "");
  validator.name(offer_name(words));
  return validator;
}

namespace {

// CLI11's "Could not convert: --seed = 1.5".
std::string conversion_problem(const std::string& text) {
  constexpr std::string_view kBegin = "Could not convert: ", kBetween = " = ";
  const size_t middle = text.find(kBetween);
  if (!text.starts_with(kBegin) || middle == std::string::npos) return text;
  const std::string value = text.substr(middle + kBetween.size());
  char* end = nullptr;
  std::strtod(value.c_str(), &end);
  const bool number = end != value.c_str() && *end == '\0';
  return text.substr(kBegin.size(), middle - kBegin.size()) + ": '" + value.substr(0, 40) +
         (number ? "' is no whole number that fits" : "' is no number");
}

}  // namespace

std::string parse_problem(const CLI::App& app, const CLI::ParseError& error) {
  if (dynamic_cast<const CLI::ConversionError*>(&error) != nullptr)
    return conversion_problem(error.what());
  if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr) return error.what();
  std::string text;
  for (const std::string& word : app.remaining(true)) {
    const std::string name = word.substr(0, word.find('='));
    const auto near = name.starts_with("-") ? nearest_name(name, flag_names(app)) : std::nullopt;
    text += (text.empty() ? "unknown here: " : ", ") + word.substr(0, 80);
    if (near) text += " (did you mean " + *near + "?)";
  }
  return text.empty() ? error.what() : text;
}

std::string help_text(const CLI::App& app) {
  return wrapped_text(app.help());
}

}  // namespace qwb
