// A report as text: for a terminal, Markdown, CSV, JSON, HTML. Whatever comes from files is escaped
// for the format.
#pragma once

#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/report/gnuplot.h"
#include "lib/report/plot.h"
#include "lib/report/report.h"

namespace qwb::report {

// All but CSV begin with the answer: the figures that decide and what they recommend (answer.h).

// Tables of at most a terminal's width where names allow it, one for each group of metrics; then
// conditions, judgements, problems.
std::string report_text(const Report& report, bool color);
std::string report_markdown(const Report& report);
// RFC 4180, one line a version: each metric as value, low, high (bounds); "n/a" where there is
// none, and the reasons in the last column.
std::string report_csv(const Report& report);
// {schema: 1, title, versions, metrics: [{id, title, group, unit, better, bounds, condition,
// figures: [{value, stderr, low, high, estimated, noisy, remark, why}]}], answer: {metrics: [id],
// recommended: [{for, versions, reason, rule}]}, pareto: [{loss, cost, front: [version]}],
// judgements, modules, problems}
Json report_json(const Report& report, const std::vector<ModuleHistogram>& histograms);
// One page without any other file. pictures: of `plots`, in their order, not captioned; empty:
// `no_pictures` says why there are none.
std::string report_html(const Report& report, const std::vector<Plot>& plots,
                        const std::vector<Picture>& pictures, const std::string& no_pictures);

// Tables as people want them: the columns of a group that have any figure, and a line for each
// group that has none.
struct GroupTable {
  MetricGroup group = MetricGroup::size;
  std::vector<const Column*> columns;
};
std::vector<GroupTable> group_tables(const Report& report);
// "Energy: not measured (qwb-eval --energy)" for the metrics that no version has.
std::vector<std::string> absent_metrics(const Report& report);
// The mean error of each block and version.
struct BlockErrors {
  std::vector<std::string> versions;
  std::vector<std::string> rows;  // "block 0", or a module outside of the blocks
  std::vector<std::vector<std::optional<double>>> cells;  // rows x versions
  std::string what;                                       // "relative weight error"
};
std::vector<BlockErrors> block_errors(const Report& report);

}  // namespace qwb::report
