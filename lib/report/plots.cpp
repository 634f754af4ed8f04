// Which pictures a report has.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "lib/report/answer.h"
#include "lib/report/figure_text.h"
#include "lib/report/module_plots.h"
#include "lib/report/pareto.h"
#include "lib/report/plot.h"

namespace qwb::report {
namespace {

constexpr double kLogFrom =
    4;  // axes of losses are logarithmic if the largest is so many times the least

std::string with_unit(const std::string& title, const std::string& unit) {
  return unit.empty() ? title : title + " / " + unit;
}

// The meaning of the error bars, and the condition of the figures.
std::string note_of(const Column& column, bool bars) {
  std::string note = column.condition;
  const std::string bounds = bounds_name(column.metric.bounds);
  const bool any = std::any_of(column.figures.begin(), column.figures.end(),
                               [](const Figure& f) { return f.value && f.bounds; });
  if (bars && any && !bounds.empty()) note += (note.empty() ? "" : "; ") + ("bars: " + bounds);
  return note;
}

double largest(const Column& column) {
  double most = 0;
  for (const Figure& f : column.figures) {
    if (f.value) most = std::max({most, std::abs(*f.value), f.bounds ? f.bounds->high : 0.0});
  }
  return most;
}

// For a ratio, pictures show the increase over the original's perplexity.
std::string loss_title(const Column& column) {
  if (column.metric.id != "ratio") return column.title();
  return "perplexity above the original" + column.title().substr(column.metric.title.size());
}

Plot bar_plot(const Report& report, const Column& column) {
  const Metric& metric = column.metric;
  const bool increase = metric.id == "ratio";  // bars from zero show what was added
  const AxisUnit unit = increase ? AxisUnit{"%", 100} : axis_unit(metric.unit, largest(column));
  const double offset = increase ? 1 : 0;
  const auto on_axis = [&](double value) { return (value - offset) * unit.factor; };
  const std::string what = loss_title(column);
  BarPlot plot;
  plot.axis = with_unit(what, unit.name);
  std::string summary;
  for (size_t v = 0; v < column.figures.size(); ++v) {
    const Figure& f = column.figures[v];
    BarPlot::Bar bar;
    bar.label = report.versions[v].name;
    bar.style = v;
    bar.estimated = f.estimated;
    bar.text = !f.value   ? "n/a: " + f.why
               : increase ? fmt::format("{:+.2f} %", on_axis(*f.value))
                          : (f.estimated ? "~" : "") + value_text(metric.unit, *f.value);
    if (f.value) bar.value = on_axis(*f.value);
    if (f.value && f.bounds) bar.bounds = Interval{on_axis(f.bounds->low), on_axis(f.bounds->high)};
    summary +=
        (summary.empty() ? "" : "; ") + bar.label + " " + (f.value ? cited(column, f) : bar.text);
    plot.bars.push_back(std::move(bar));
  }
  const std::string better = metric.better == Better::lower ? "less is better" : "more is better";
  return {increase ? "loss" + column.id().substr(metric.id.size()) : column.id(),
          capitalized(what) + " (" + better + ")", note_of(column, true), summary, std::move(plot)};
}

bool wants_log(const std::vector<ScatterPlot::Mark>& marks) {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (const auto& mark : marks) {
    least = std::min({least, mark.y, mark.y_bounds ? mark.y_bounds->low : mark.y});
    most = std::max(most, mark.y);
  }
  return least > 0 && most > kLogFrom * least;
}

// The original's value by definition: no measurement, but the point that the others are compared
// with.
Figure with_original(const Column& loss, const Version& version, const Figure& figure) {
  Figure known = figure;
  if (version.original && !figure.value && loss.metric.id == "ratio") known.value = 1;
  if (version.original && !figure.value && loss.metric.id == "kl") known.value = 0;
  return known;
}

// Values on an axis: (value - offset) * factor.
struct Scale {
  double offset = 0, factor = 1;
  double operator()(double value) const { return (value - offset) * factor; }
  std::optional<Interval> operator()(const std::optional<Interval>& bounds) const {
    return bounds ? std::optional(Interval{(*this)(bounds->low), (*this)(bounds->high)})
                  : std::nullopt;
  }
};

// Marks the front; returns the names on it.
std::string mark_front(ScatterPlot& plot) {
  std::vector<CostPair> pairs;
  for (const auto& mark : plot.marks) pairs.push_back({mark.x, mark.y});
  const std::vector<bool> front = pareto_front(pairs);
  std::string names;
  for (size_t i = 0; i < front.size(); ++i) {
    plot.marks[i].front = front[i];
    if (front[i]) names += (names.empty() ? "" : ", ") + plot.marks[i].label;
  }
  return names;
}

// Loss over cost. Nothing with fewer than two versions that have both.
std::optional<Plot> scatter_plot(const Report& report, const Column& cost, const Column& loss) {
  const bool increase = loss.metric.id == "ratio";
  const AxisUnit x_unit = axis_unit(cost.metric.unit, largest(cost));
  const AxisUnit y_unit =
      increase ? AxisUnit{"%", 100} : axis_unit(loss.metric.unit, largest(loss));
  const Scale on_x{0, x_unit.factor}, on_y{increase ? 1.0 : 0.0, y_unit.factor};
  ScatterPlot plot;
  for (size_t v = 0; v < report.versions.size(); ++v) {
    const Figure &x = cost.figures[v], y = with_original(loss, report.versions[v], loss.figures[v]);
    if (!x.value || !y.value) continue;
    plot.marks.push_back({report.versions[v].name, on_x(*x.value), on_y(*y.value), on_x(x.bounds),
                          on_y(y.bounds), false, v});
  }
  if (plot.marks.size() < 2) return std::nullopt;
  const std::string names = mark_front(plot), what = loss_title(loss);
  plot.log_y = wants_log(plot.marks);
  plot.x_axis = with_unit(cost.title(), x_unit.name);
  if (std::any_of(cost.figures.begin(), cost.figures.end(),
                  [](const Figure& f) { return f.estimated; }))
    plot.x_axis += " (estimated)";
  plot.y_axis = with_unit(what, y_unit.name);
  std::string note = note_of(loss, true);
  if (!cost.condition.empty()) note += "; " + cost.condition;
  return Plot{(increase ? "loss" + loss.id().substr(5) : loss.id()) + "-against-" + cost.id(),
              capitalized(what) + " against " + cost.title(), note,
              "On the Pareto front (no other is better in both): " + names, std::move(plot)};
}

// The first picture of a report: what was lost against bytes. Against bits per weight it looks the
// same for versions of one model, and holds for several.
void add_loss_against_size(const Report& report, std::vector<Plot>& plots) {
  const Column *loss = loss_column(report), *size = report.find("size");
  if (loss == nullptr || size == nullptr) return;
  if (auto plot = scatter_plot(report, *size, *loss)) plots.insert(plots.begin(), std::move(*plot));
}

void add_scatters(const Report& report, std::vector<Plot>& plots) {
  for (const Column& loss : report.columns) {
    if (loss.metric.id != "perplexity" && loss.metric.id != "ratio" && loss.metric.id != "kl")
      continue;
    for (const Column& cost : report.columns) {
      if (cost.metric.id != "bpw" && cost.metric.id != "joules_generated") continue;
      if (auto plot = scatter_plot(report, cost, loss)) plots.push_back(std::move(*plot));
    }
  }
}

}  // namespace

std::vector<Plot> plots_of(const Report& report, const std::vector<ModuleHistogram>& histograms) {
  std::vector<Plot> plots;
  for (const Column& column : report.columns) {
    const std::string& id = column.metric.id;
    if (!column.empty() && id != "kl_p99") plots.push_back(bar_plot(report, column));
  }
  add_scatters(report, plots);
  add_loss_against_size(report, plots);
  if (auto plot = block_plot(report, &ModuleError::weight_error, "weight-error-by-block",
                             "relative weight error"))
    plots.push_back(std::move(*plot));
  if (auto plot = block_plot(report, &ModuleError::output_error, "output-error-by-block",
                             "relative output error"))
    plots.push_back(std::move(*plot));
  for (size_t i = 0; i < histograms.size(); ++i)
    plots.push_back(histogram_plot(report, histograms[i], i + 1));
  return plots;
}

}  // namespace qwb::report
