#include "lib/report/builder.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "lib/base/error.h"
#include "lib/report/clean_text.h"
#include "lib/report/fields.h"
#include "lib/report/judgements.h"
#include "lib/report/names.h"

namespace qwb::report {
namespace {

std::string real_folder(const std::string& folder) {
  std::error_code failed;
  const Path path = std::filesystem::weakly_canonical(folder, failed);
  return failed ? folder : path.string();
}

bool same_metric(const Reading& a, const Reading& b) {
  return a.metric.id == b.metric.id &&
         (!a.figure.value || !b.figure.value || a.condition == b.condition);
}

// Metrics that vary from run to run; perplexities and their like do not.
bool varies(const Metric& metric) {
  return metric.group == MetricGroup::memory || metric.group == MetricGroup::speed ||
         metric.group == MetricGroup::energy;
}

// The same work measured once more: of memory the most that any run needed; of repeated timings and
// joules the mean, and bounds that hold those of all runs. A noisy run is replaced by an
// undisturbed one.
void join(Reading& known, const Reading& again) {
  Figure& a = known.figure;
  const Figure& b = again.figure;
  if (*a.value == *b.value) return;
  if (known.metric.group == MetricGroup::memory) {
    if (*b.value > *a.value) a = b;
  } else if (known.metric.bounds == BoundsKind::range && a.noisy != b.noisy) {
    if (a.noisy) a = b;
  } else if (known.metric.bounds == BoundsKind::range) {
    const Interval x = a.bounds.value_or(Interval{*a.value, *a.value}),
                   y = b.bounds.value_or(Interval{*b.value, *b.value});
    a.value = (*a.value * a.runs + *b.value) / (a.runs + 1);
    ++a.runs;
    a.bounds = Interval{std::min(x.low, y.low), std::max(x.high, y.high)};
    if (!a.noisy) a.remark = kSeveralRuns;
  }
}

// Both measured it, and found different values.
bool disagree(const std::vector<Reading>& a, const std::vector<Reading>& b) {
  return std::any_of(a.begin(), a.end(), [&](const Reading& x) {
    return std::any_of(b.begin(), b.end(), [&](const Reading& y) {
      return x.metric.id == y.metric.id && !varies(x.metric) && x.figure.value && y.figure.value &&
             x.condition == y.condition && *x.figure.value != *y.figure.value;
    });
  });
}

void merge(std::vector<Reading>& into, const std::vector<Reading>& more, bool fill_gaps) {
  for (const Reading& reading : more) {
    const auto known = std::find_if(into.begin(), into.end(),
                                    [&](const Reading& r) { return same_metric(r, reading); });
    if (known == into.end())
      into.push_back(reading);
    else if (!known->figure.value)
      *known = reading;
    else if (reading.figure.value && !fill_gaps)
      join(*known, reading);
  }
}

}  // namespace

ReportBuilder::ReportBuilder(const std::string& title) : title_(clean_text(title)) {}

void ReportBuilder::add_problem(const std::string& problem) {
  const std::string text = clean_text(problem);
  if (std::find(problems_.begin(), problems_.end(), text) == problems_.end())
    problems_.push_back(text);
}

// The row that a record of the same model belongs to; null: it begins a new one.
ReportBuilder::Row* ReportBuilder::home_of(const Row& row, bool fill_gaps) {
  for (Row& known : rows_) {
    const bool named_apart = !row.given.empty() && !known.given.empty() && row.given != known.given;
    if (known.folder == row.folder && known.method == row.method && known.forward == row.forward &&
        !named_apart && (fill_gaps || !disagree(known.readings, row.readings)))
      return &known;
  }
  return nullptr;
}

void ReportBuilder::add(const Json& record, const std::string& where, const std::string& name,
                        bool fill_gaps) {
  Row row;
  row.readings = readings_of(record, where);
  const Fields fields(record, where);
  row.folder = real_folder(fields.text("/artifact"));
  row.method = clean_text(fields.text("/method"));
  row.bits = fields.number("/bits");
  if (const Json* forward = fields.find("/int8_forward")) row.forward = *forward;
  row.given = clean_text(name);
  for (const char* part : {"/perplexity/baseline", "/divergence/baseline"}) {
    if (const std::string folder = fields.text(part); !folder.empty())
      row.baselines.push_back(real_folder(folder));
  }
  for (int i = 0; fields.has("/problems/" + std::to_string(i)); ++i)
    add_problem(where + ": " + fields.text("/problems/" + std::to_string(i)));
  if (Row* known = home_of(row, fill_gaps)) {
    merge(known->readings, row.readings, fill_gaps);
    known->baselines.insert(known->baselines.end(), row.baselines.begin(), row.baselines.end());
    if (known->given.empty()) known->given = row.given;
    return;
  }
  rows_.push_back(std::move(row));
}

Version ReportBuilder::version_of(const Row& row, Report& report) const {
  Version version;
  version.artifact = clean_text(row.folder);
  version.method = row.method;
  version.bits = row.bits;
  version.forward = row.forward;
  try {
    version.making = making_of(row.folder);
  } catch (const Error& error) {
    report.problems.push_back(clean_text(error.what()));
  }
  const bool named = std::any_of(rows_.begin(), rows_.end(), [&](const Row& other) {
    return std::find(other.baselines.begin(), other.baselines.end(), row.folder) !=
           other.baselines.end();
  });
  version.original =
      row.method == "none" && (named || (row.baselines.empty() && !version.making.has_value()));
  return version;
}

std::vector<Column> ReportBuilder::columns_of(
    const std::vector<std::vector<Reading>>& readings) const {
  std::vector<Column> columns;
  const auto column_of = [&](const Metric& metric, const std::string& condition) -> Column& {
    for (Column& column : columns) {
      if (column.metric.id == metric.id && column.condition == condition) return column;
    }
    // Behind the other conditions of this metric.
    auto place = std::find_if(columns.rbegin(), columns.rend(),
                              [&](const Column& c) { return c.metric.id == metric.id; });
    const auto at = place == columns.rend() ? columns.end() : place.base();
    return *columns.insert(at, {metric, condition, 0, std::vector<Figure>(readings.size())});
  };
  for (const auto& row : readings) {
    for (const Reading& reading : row) {
      if (reading.figure.value) column_of(reading.metric, reading.condition);
    }
  }
  // A metric that was not measured has a column too: it says why.
  for (const auto& row : readings) {
    for (const Reading& reading : row) {
      const bool known = std::any_of(columns.begin(), columns.end(), [&](const Column& c) {
        return c.metric.id == reading.metric.id;
      });
      if (!known) column_of(reading.metric, "");
    }
  }
  return columns;
}

namespace {

void number_conditions(std::vector<Column>& columns) {
  for (Column& column : columns) {
    int before = 0, all = 0;
    for (const Column& other : columns) {
      if (other.metric.id != column.metric.id) continue;
      ++all;
      if (&other <= &column) ++before;
    }
    column.number = all > 1 ? before : 0;
  }
}

Figure figure_for(const Column& column, const std::vector<Reading>& readings,
                  const Version& version) {
  Figure absent;
  absent.why = "not measured";
  for (const Reading& reading : readings) {
    if (reading.metric.id != column.metric.id) continue;
    if (!reading.figure.value)
      absent.why = reading.figure.why;
    else if (reading.condition == column.condition)
      return reading.figure;
    else
      absent.why = "measured under another condition";
  }
  const std::string& id = column.metric.id;
  const bool compares = id == "ratio" || id == "kl" || id == "kl_p99" || id == "same_top";
  if (version.original && compares) absent.why = "it is the original";
  return absent;
}

}  // namespace

Report ReportBuilder::build() const {
  Report report;
  report.title = title_;
  report.problems = problems_;
  std::vector<std::string> given;
  std::vector<std::vector<Reading>> readings;
  for (const Row& row : rows_) {
    report.versions.push_back(version_of(row, report));
    given.push_back(row.given);
    readings.push_back(row.readings);
    merge(readings.back(), readings_of(report.versions.back().making), true);
  }
  name_versions(report.versions, given);
  report.columns = columns_of(readings);
  std::stable_sort(
      report.columns.begin(), report.columns.end(),
      [](const Column& a, const Column& b) { return a.metric.group < b.metric.group; });
  number_conditions(report.columns);
  for (Column& column : report.columns) {
    for (size_t v = 0; v < readings.size(); ++v)
      column.figures[v] = figure_for(column, readings[v], report.versions[v]);
  }
  report.judgements = judge(report);
  return report;
}

}  // namespace qwb::report
