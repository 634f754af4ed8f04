// Plots as commands of gnuplot, which draws axes, ticks, bars, error bars, lines and legends from
// the data and makes room for them. It neither wraps nor cuts texts: those are cut here to terminal
// columns (lib/base/text.h), which are gnuplot's measure of margins too.
#pragma once

#include <string>
#include <vector>

#include "lib/report/plot.h"

namespace qwb::report {

inline constexpr const char* kGrey = "#808080";  // readable on white and on black

struct Drawing {
  std::string x_title;
  std::string y_title = {};      // empty: none
  int64_t left = 10, right = 2;  // margins of the area in columns
  double height = 250;           // of the area in pixels
  std::string grid = "ytics";
  std::vector<std::string> legend = {};  // the titles of all curves that have one
  std::string commands = {};             // data, axes, plot
};

Drawing drawing_of(const BarPlot& plot);
Drawing drawing_of(const ScatterPlot& plot);
Drawing drawing_of(const LinePlot& plot);
Drawing drawing_of(const HistogramPlot& plot);

// Colour and shape of a version; of the palette of Okabe and Ito (jfly.uni-koeln.de/color), which
// people with any kind of colour blindness can tell apart. Its black and yellow are left out: they
// vanish on dark and on light paper. 42 versions differ in colour or shape.
int style_color(size_t style);               // 0xRRGGBB
int style_point(size_t style, bool filled);  // gnuplot's pointtype

// The text cut to so many columns and quoted (gnuplot_script.h).
std::string quoted_within(const std::string& text, int64_t columns);
// Named data inside of a script: $name << end ... end. Points with a NaN are left out.
using DataRows = std::vector<std::vector<double>>;
std::string data_block(const std::string& name, const DataRows& rows);

// A step between ticks for labels that do not touch: gnuplot's own fits broad areas only.
std::string tick_step(double range, int ticks);
// A logarithmic axis y; 1, 2 and 5 of each decade have labels where there are few decades.
std::string log_axis(const Interval& span);
// Widens `span` to hold the value.
void widen(Interval& span, double value);
inline constexpr Interval kNothing{1, -1};  // the span of no value

}  // namespace qwb::report
