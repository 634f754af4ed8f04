#include "lib/report/names.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "lib/base/file.h"
#include "lib/model/int8_forward.h"
#include "lib/report/clean_text.h"

namespace qwb::report {
namespace {

std::string method_name(const Version& version) {
  if (!version.bits ||
      version.method.find(std::to_string(static_cast<int>(*version.bits))) != std::string::npos)
    return version.method;
  return fmt::format("{}-{:.3g}", version.method, *version.bits);
}

// ".../models--OWNER--NAME/snapshots/REVISION" -> "OWNER/NAME"
std::string hub_name(const std::string& folder) {
  const std::string mark = "models--";
  const size_t begin = folder.rfind("/" + mark);
  const size_t end = folder.find("/snapshots/", begin == std::string::npos ? 0 : begin);
  if (begin == std::string::npos || end == std::string::npos) return {};
  std::string name = folder.substr(begin + 1 + mark.size(), end - begin - 1 - mark.size());
  if (const size_t cut = name.find("--"); cut != std::string::npos) name.replace(cut, 2, "/");
  return name;
}

std::string first_name(const Version& version) {
  const Path path(version.artifact);
  const std::string last = path.filename().string();
  if (std::string hub = hub_name(version.artifact); !hub.empty()) return hub;
  const bool object = last == "data" && version.artifact.find("/objects/") != std::string::npos;
  return object || last.empty() ? method_name(version) : last;
}

// "group_size 64, symmetric false": the settings in which the versions of one name differ.
std::string own_settings(const Version& version, const std::vector<const Version*>& twins) {
  if (!version.making || !version.making->settings.is_object()) return {};
  std::string text;
  for (const auto& [key, value] : version.making->settings.items()) {
    bool differs = false;
    for (const Version* twin : twins) {
      const bool has = twin->making && twin->making->settings.is_object() &&
                       twin->making->settings.contains(key);
      differs |= has && twin->making->settings.at(key) != value;
    }
    if (differs) text += (text.empty() ? "" : ", ") + key + " " + value.dump();
  }
  return clean_text(text);
}

std::string forward_name(const Version& version) {
  return version.forward.is_object() && version.forward.contains("threshold") ? "LLM.int8" : "";
}

template <typename Addition>
void distinguish(std::vector<Version>& versions, const std::vector<std::string>& given,
                 Addition addition) {
  std::map<std::string, std::vector<const Version*>> by_name;
  const std::vector<Version> before = versions;
  for (const Version& version : before) by_name[version.name].push_back(&version);
  for (size_t i = 0; i < versions.size(); ++i) {
    const auto& twins = by_name.at(before[i].name);
    if (twins.size() < 2 || !given[i].empty()) continue;
    if (const std::string more = addition(before[i], twins); !more.empty())
      versions[i].name += " (" + more + ")";
  }
}

}  // namespace

void name_versions(std::vector<Version>& versions, const std::vector<std::string>& given) {
  for (size_t i = 0; i < versions.size(); ++i)
    versions[i].name = given[i].empty() ? clean_text(first_name(versions[i])) : given[i];
  distinguish(versions, given, [](const Version& v, const auto&) { return forward_name(v); });
  distinguish(versions, given,
              [](const Version& v, const auto& twins) { return own_settings(v, twins); });
  std::set<std::string> taken;
  for (Version& version : versions) {
    std::string name = version.name;
    for (int number = 2; !taken.insert(name).second; ++number)
      name = version.name + " #" + std::to_string(number);
    version.name = name;
  }
}

}  // namespace qwb::report
