// The pictures of a report as data; gnuplot_script.h draws them.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "lib/report/histogram.h"
#include "lib/report/report.h"

namespace qwb::report {

// Horizontal bars from zero, one for each version.
struct BarPlot {
  struct Bar {
    std::string label;
    std::string text;  // beside the bar: its value, or why there is none
    std::optional<double> value;
    std::optional<Interval> bounds;
    size_t style = 0;  // number of the version: its colour and shape in all pictures
    bool estimated = false;
  };
  std::string axis;
  std::vector<Bar> bars;
};

// One mark for each version; those on the Pareto front are joined.
struct ScatterPlot {
  struct Mark {
    std::string label;
    double x = 0, y = 0;
    std::optional<Interval> x_bounds, y_bounds;
    bool front = false;
    size_t style = 0;
  };
  std::string x_axis, y_axis;
  bool log_y = false;
  std::vector<Mark> marks;
};

// Lines over the blocks of a model.
struct LinePlot {
  struct Line {
    std::string label;
    std::vector<std::pair<double, double>> points;
    size_t style = 0;
  };
  std::string x_axis, y_axis;
  bool log_y = false;
  std::vector<Line> lines;
};

// How often values occur in a module, before and after.
struct HistogramPlot {
  std::string x_axis, y_axis;
  std::string before_label, after_label;
  double low = 0, high = 0;           // of the first and the last bin
  std::vector<double> before, after;  // shares, in %
  size_t style = 0;
};

struct Plot {
  std::string name;  // of its files: "perplexity-against-bpw"
  std::string title;
  std::string note;     // condition, meaning of error bars
  std::string summary;  // the same in words, for those who cannot see it
  std::variant<BarPlot, ScatterPlot, LinePlot, HistogramPlot> content;
};

// Weights of one module of one version beside those of the original.
struct ModuleHistogram {
  std::string module;
  size_t version = 0;
  HistogramPair pair;
};

// Every picture that the figures allow: bars for each metric, losses against bits per weight and
// against joules, error by block, histograms.
std::vector<Plot> plots_of(const Report& report, const std::vector<ModuleHistogram>& histograms);

}  // namespace qwb::report
