#include "lib/jobs/work_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

namespace qwb {
namespace {

constexpr size_t kWorst = 3;  // modules named for what they lost
constexpr size_t kNamed = 4;  // modules named for anything else
constexpr const char* kWhere = "qwb.json: modules";

std::optional<double> number(const Json& entry, const char* key) {
  return json_has(entry, key) ? std::optional(json_number(entry, key, kWhere)) : std::nullopt;
}

std::string name_of(const Json& entry) {
  return json_string(entry, "name", kWhere);
}

// "a, b, c and 5 more"
std::string listed(const std::vector<std::string>& items) {
  std::string text;
  for (size_t i = 0; i < std::min(items.size(), kNamed); ++i)
    text += (i == 0 ? "" : ", ") + items[i];
  if (items.size() > kNamed) text += fmt::format(" and {} more", items.size() - kNamed);
  return text;
}

std::string time_line(const Json& reports, double total) {
  std::map<std::string, std::pair<double, int>> methods;
  double modules = 0;
  for (const Json& report : reports) {
    const double seconds = number(report, "seconds").value_or(0);
    auto& [sum, count] = methods[json_string(report, "method", kWhere, "?")];
    sum += seconds;
    ++count;
    modules += seconds;
  }
  std::string text;
  for (const auto& [method, figures] : methods) {
    text +=
        fmt::format("{}{} {} in {} module{}", text.empty() ? "time: " : ", ", method,
                    human_duration(figures.first), figures.second, figures.second == 1 ? "" : "s");
  }
  return text +
         fmt::format(", calibration and files {}", human_duration(std::max(0.0, total - modules)));
}

// The modules that lost most, by the error of their output where it is known.
std::string worst_line(const Json& reports) {
  const bool output = std::any_of(reports.begin(), reports.end(), [](const Json& report) {
    return json_has(report, "output_error");
  });
  const char* key = output ? "output_error" : "weight_error";
  std::vector<const Json*> order;
  for (const Json& report : reports) {
    if (number(report, key).value_or(0) > 0) order.push_back(&report);
  }
  if (order.empty()) return "no module lost anything";
  std::stable_sort(order.begin(), order.end(), [&](const Json* a, const Json* b) {
    return *number(*a, key) > *number(*b, key);
  });
  std::string text = fmt::format("largest relative {} error: ", output ? "output" : "weight");
  for (size_t i = 0; i < std::min(order.size(), kWorst); ++i) {
    text += fmt::format("{}{:.2e} in {}", i == 0 ? "" : ", ", *number(*order[i], key),
                        name_of(*order[i]));
    if (const auto before = number(*order[i], "rounding_error"))
      text += fmt::format(" (rounding: {:.2e})", *before);
  }
  return text;
}

bool damping_raised(const Json& report) {
  const auto used = number(report, "damping");
  const auto asked =
      json_has(report, "settings") ? number(report.at("settings"), "damping") : std::nullopt;
  return number(report, "attempts").value_or(1) > 1 || (used && asked && *used > *asked);
}

std::string damping_line(const Json& reports) {
  std::vector<std::string> raised;
  for (const Json& report : reports) {
    if (!damping_raised(report)) continue;
    raised.push_back(
        fmt::format("{} (to {:.3g})", name_of(report), number(report, "damping").value_or(0)));
  }
  if (raised.empty()) return {};
  return fmt::format("damping had to be raised in {} module{}, whose moments are singular: {}",
                     raised.size(), raised.size() == 1 ? "" : "s", listed(raised));
}

std::string dead_line(const Json& reports) {
  std::vector<std::string> dead;
  for (const Json& report : reports) {
    const double columns = number(report, "dead_columns").value_or(0);
    if (columns == 0) continue;
    dead.push_back(fmt::format("{} ({:.0f} of {:.0f})", name_of(report), columns,
                               number(report, "in").value_or(0)));
  }
  if (dead.empty()) return {};
  return fmt::format(
      "input channels that were 0 on every calibration token (rounded plainly) in {} module{}: {}",
      dead.size(), dead.size() == 1 ? "" : "s", listed(dead));
}

std::string cell(const Json& report, const char* key, const char* format) {
  const auto value = number(report, key);
  return value ? fmt::format(fmt::runtime(format), *value) : "-";
}

}  // namespace

Json module_reports(const Json& manifest) {
  Json reports = Json::array();
  for (const Json& module : manifest.at("modules")) {
    Json report = module;
    for (const char* key : {"method", "method_version", "settings"}) {
      if (!json_has(report, key) && json_has(manifest, key)) report[key] = manifest.at(key);
    }
    const Json details = json_has(report, "details") ? report.at("details") : Json::object();
    for (const char* key : {"rounding_error", "damping", "attempts", "dead_columns"})
      report[key] = json_has(details, key) ? details.at(key) : Json(nullptr);
    reports.push_back(std::move(report));
  }
  return reports;
}

std::vector<std::string> work_summary(const Json& manifest) {
  const Json reports = module_reports(manifest);
  const double seconds =
      json_has(manifest, "totals") ? number(manifest.at("totals"), "seconds").value_or(0) : 0;
  std::vector<std::string> lines;
  for (std::string line : {time_line(reports, seconds), worst_line(reports), damping_line(reports),
                           dead_line(reports)}) {
    if (!line.empty()) lines.push_back(std::move(line));
  }
  return lines;
}

Table module_table(const Json& reports) {
  using Align = Table::Align;
  Table table({{"module"},
               {"method"},
               {"bits", Align::right},
               {"bpw", Align::right},
               {"output error, rounded", Align::right},
               {"as stored", Align::right},
               {"weight error", Align::right},
               {"damping", Align::right},
               {"dead", Align::right},
               {"time", Align::right}});
  for (const Json& report : reports) {
    const std::string damping =
        cell(report, "damping", "{:.3g}") + (damping_raised(report) ? " raised" : "");
    const auto seconds = number(report, "seconds");
    table.add_row({name_of(report), json_string(report, "method", kWhere, "?"),
                   cell(report, "bits", "{:.3g}"), cell(report, "bpw", "{:.3f}"),
                   cell(report, "rounding_error", "{:.3e}"), cell(report, "output_error", "{:.3e}"),
                   cell(report, "weight_error", "{:.3e}"), damping,
                   cell(report, "dead_columns", "{:.0f}"),
                   seconds ? human_duration(*seconds) : "-"});
  }
  return table;
}

}  // namespace qwb
