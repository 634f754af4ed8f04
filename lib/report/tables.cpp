// Code shared by the tables of all formats.
#include <algorithm>
#include <map>

#include "lib/report/render.h"

namespace qwb::report {

std::vector<GroupTable> group_tables(const Report& report) {
  std::vector<GroupTable> tables;
  for (const Column& column : report.columns) {
    if (column.empty()) continue;
    if (tables.empty() || tables.back().group != column.metric.group)
      tables.push_back({column.metric.group, {}});
    tables.back().columns.push_back(&column);
  }
  return tables;
}

std::vector<std::string> absent_metrics(const Report& report) {
  std::vector<std::pair<std::string, std::string>> reasons;  // why, titles
  for (const Column& column : report.columns) {
    if (!column.empty() || column.figures.empty()) continue;
    // For the original, missing comparisons need no reason.
    size_t v = 0;
    while (v + 1 < report.versions.size() && report.versions[v].original) ++v;
    const std::string& why = column.figures[v].why;
    const auto known =
        std::find_if(reasons.begin(), reasons.end(), [&](const auto& r) { return r.first == why; });
    if (known == reasons.end())
      reasons.emplace_back(why, column.title());
    else
      known->second += ", " + column.title();
  }
  std::vector<std::string> lines;
  lines.reserve(reasons.size());
  for (const auto& [why, titles] : reasons) lines.push_back(titles + ": n/a, " + why);
  return lines;
}

namespace {

using ErrorField = std::optional<double> ModuleError::*;

std::optional<BlockErrors> errors_of(const Report& report, ErrorField field,
                                     const std::string& what) {
  BlockErrors table;
  table.what = what;
  std::vector<std::map<std::string, std::pair<double, int>>> sums;
  std::vector<std::pair<int64_t, std::string>> names;
  for (const Version& version : report.versions) {
    if (!version.making) continue;
    std::map<std::string, std::pair<double, int>> of_version;
    for (const ModuleError& module : version.making->modules) {
      if (!(module.*field)) continue;
      const std::string name =
          module.block ? "block " + std::to_string(*module.block) : module.name;
      names.emplace_back(module.block.value_or(INT64_MAX), name);
      of_version[name].first += *(module.*field);
      ++of_version[name].second;
    }
    if (of_version.empty()) continue;
    table.versions.push_back(version.name);
    sums.push_back(std::move(of_version));
  }
  if (sums.empty()) return std::nullopt;
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const auto& [block, name] : names) {
    table.rows.push_back(name);
    std::vector<std::optional<double>> row;
    for (const auto& of_version : sums) {
      const auto found = of_version.find(name);
      row.push_back(found == of_version.end()
                        ? std::nullopt
                        : std::optional(found->second.first / found->second.second));
    }
    table.cells.push_back(std::move(row));
  }
  return table;
}

}  // namespace

std::vector<BlockErrors> block_errors(const Report& report) {
  std::vector<BlockErrors> tables;
  if (auto t = errors_of(report, &ModuleError::weight_error, "relative weight error"))
    tables.push_back(*t);
  if (auto t = errors_of(report, &ModuleError::output_error, "relative output error"))
    tables.push_back(*t);
  return tables;
}

}  // namespace qwb::report
