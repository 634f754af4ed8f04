#include "lib/report/report.h"

#include <algorithm>
#include <utility>

namespace qwb::report {

std::string Column::title() const {
  return number == 0 ? metric.title : metric.title + " [" + std::to_string(number) + "]";
}

std::string Column::id() const {
  return number == 0 ? metric.id : metric.id + "-" + std::to_string(number);
}

bool Column::empty() const {
  return std::none_of(figures.begin(), figures.end(),
                      [](const Figure& f) { return f.value.has_value(); });
}

const Column* Report::find(const std::string& metric) const {
  for (const Column& column : columns) {
    if (column.metric.id == metric) return &column;
  }
  return nullptr;
}

const char* group_title(MetricGroup group) {
  switch (group) {
    case MetricGroup::size:
      return "Size";
    case MetricGroup::quality:
      return "What was lost";
    case MetricGroup::tasks:
      return "Tasks";
    case MetricGroup::speed:
      return "Speed";
    case MetricGroup::memory:
      return "Memory";
    case MetricGroup::energy:
      return "Energy";
    case MetricGroup::making:
      return "Making";
  }
  return "";
}

std::vector<std::string> condition_notes(const Report& report) {
  std::vector<std::pair<std::string, std::string>> notes;  // condition, titles
  for (const Column& column : report.columns) {
    if (column.condition.empty()) continue;
    const auto known = std::find_if(notes.begin(), notes.end(), [&](const auto& note) {
      return note.first == column.condition;
    });
    if (known == notes.end())
      notes.emplace_back(column.condition, column.title());
    else
      known->second += ", " + column.title();
  }
  std::vector<std::string> lines;
  lines.reserve(notes.size());
  for (const auto& [condition, titles] : notes) lines.push_back(titles + ": " + condition);
  return lines;
}

}  // namespace qwb::report
