#include "tools/manual/declaration.h"

#include <algorithm>
#include <set>
#include <utility>

namespace qwb {
namespace {

// The words stand in the name of a validator that lets everything pass: CLI11 has no other place on
// an option for them, and its help does not show this one.
constexpr const char* kOffer = "offer\n";

std::vector<std::string> split_words(const std::string& text, char separator) {
  std::vector<std::string> words;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    if (end > begin) words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

std::vector<CLI::Validator*> validators_of(CLI::Option& option) {
  std::vector<CLI::Validator*> found;
  try {
    for (int i = 0;; ++i) found.push_back(option.get_validator(i));
  } catch (const CLI::OptionNotFound&) {  // after the last one
  }
  return found;
}

// CLI::IsMember describes itself as "{a,b,c}".
std::vector<std::string> offered_words(CLI::Option& option) {
  std::vector<std::string> members;
  for (const CLI::Validator* validator : validators_of(option)) {
    const std::string name = validator->get_name(), description = validator->get_description();
    if (name.rfind(kOffer, 0) == 0)
      return split_words(name.substr(std::string(kOffer).size()), '\n');
    if (description.size() > 1 && description.front() == '{' && description.back() == '}')
      members = split_words(description.substr(1, description.size() - 2), ',');
  }
  return members;
}

// The type without what validators add to it.
std::string plain_type(CLI::Option& option) {
  std::string added;
  for (const CLI::Validator* validator : validators_of(option)) {
    const std::string description = validator->get_description();
    if (!description.empty()) added += ":" + description;
  }
  std::string type = option.get_type_name();
  if (type.size() >= added.size() &&
      type.compare(type.size() - added.size(), added.size(), added) == 0)
    type.resize(type.size() - added.size());
  return type;
}

bool names_paths(const std::string& value) {
  static const std::set<std::string> all = {"FILE", "FILE...", "DIR",  "FOLDER", "MODEL",
                                            "IN",   "OUT",     "TEXT", "C[:N]",  "TASK"};
  return all.contains(value);
}

DeclaredOption declared(CLI::Option& option) {
  DeclaredOption d;
  for (const std::string& name : option.get_snames()) d.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) d.names.push_back("--" + name);
  d.help = option.get_description();
  d.group = option.get_group();
  d.fallback = option.get_default_str();
  d.required = option.get_required();
  d.repeated = option.get_expected_max() > 1 ||
               option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
  if (d.names.empty()) {
    d.value = option.get_name(true);
  } else if (option.get_items_expected_max() > 0) {
    d.value = plain_type(option);
    if (d.value.empty()) d.value = "VALUE";
  }
  d.words = offered_words(option);
  d.paths = names_paths(d.value);
  return d;
}

void move_common_last(std::vector<DeclaredOption>& options) {
  std::stable_partition(options.begin(), options.end(),
                        [](const DeclaredOption& option) { return option.group != "Common"; });
}

Json option_json(const DeclaredOption& o) {
  return {{"names", o.names}, {"value", o.value},       {"help", o.help},
          {"group", o.group}, {"fallback", o.fallback}, {"required", o.required},
          {"words", o.words}, {"paths", o.paths}};
}

}  // namespace

Declaration declaration_of(CLI::App& app) {
  Declaration d;
  d.name = app.get_name();
  d.summary = app.get_description();
  for (CLI::Option* option : app.get_options({})) {
    if (option->get_group().empty()) continue;  // hidden
    (option->nonpositional() ? d.options : d.positionals).push_back(declared(*option));
  }
  for (CLI::App* command : app.get_subcommands(std::function<bool(CLI::App*)>{})) {
    Declaration child = declaration_of(*command);
    const auto known = [&](const DeclaredOption& option) {
      return std::any_of(child.options.begin(), child.options.end(),
                         [&](const DeclaredOption& own) { return own.names == option.names; });
    };
    for (const DeclaredOption& option : d.options) {
      if (app.get_fallthrough() && !known(option)) child.options.push_back(option);
    }
    move_common_last(child.options);
    d.commands.push_back(std::move(child));
  }
  move_common_last(d.options);
  return d;
}

std::string offer_name(const std::vector<std::string>& words) {
  std::string name = kOffer;
  for (const std::string& word : words) name += word + "\n";
  return name;
}

void offer(CLI::Option* option, const std::vector<std::string>& words) {
  CLI::Validator passes([](std::string&) { return std::string(); }, "");
  passes.name(offer_name(words));
  option->check(passes);
}

void offer_list(CLI::Option* option, const std::string& list) {
  std::vector<std::string> words;
  for (std::string word : split_words(list, ','))
    words.push_back(word.substr(word.find_first_not_of(' ')));
  offer(option, words);
}

std::string option_title(const DeclaredOption& option) {
  std::string title;
  for (const std::string& name : option.names) title += (title.empty() ? "" : ", ") + name;
  if (!option.value.empty()) title += (title.empty() ? "" : " ") + option.value;
  if (option.names.empty() && option.repeated) title += "...";
  return title;
}

std::string short_help(const DeclaredOption& option, size_t width) {
  std::string text = option.help.substr(0, option.help.find('\n'));
  for (const char* end : {"; ", ": ", " [", " ("}) {
    const size_t at = text.find(end);
    if (at != std::string::npos && at > 10) text.resize(at);
  }
  while (text.size() > width) {
    const size_t space = text.rfind(' ');
    if (space == std::string::npos) break;
    text.resize(space);
  }
  while (!text.empty() && (text.back() == ':' || text.back() == ',' || text.back() == ';'))
    text.pop_back();
  return text;
}

std::vector<std::string> group_names(const std::vector<DeclaredOption>& options) {
  std::vector<std::string> names;
  for (const DeclaredOption& option : options) {
    if (std::find(names.begin(), names.end(), option.group) == names.end())
      names.push_back(option.group);
  }
  return names;
}

Json declaration_json(const Declaration& declaration) {
  Json json = {{"name", declaration.name}, {"summary", declaration.summary}};
  json["options"] = json["positionals"] = json["commands"] = Json::array();
  for (const DeclaredOption& option : declaration.options)
    json["options"].push_back(option_json(option));
  for (const DeclaredOption& option : declaration.positionals)
    json["positionals"].push_back(option_json(option));
  for (const Declaration& command : declaration.commands)
    json["commands"].push_back(declaration_json(command));
  return json;
}

}  // namespace qwb
