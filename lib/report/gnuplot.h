// Runs gnuplot, an optional program, on the scripts of gnuplot_script.h.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/report/plot.h"

namespace qwb::report {

struct Picture {
  std::string name;  // of its files, without ending
  int width = 0, height = 0;
  std::string svg;  // a whole file; follows light and dark by itself
  std::string png;  // twice as many pixels; empty unless asked for
};

// The gnuplot of this PATH; nothing without one.
std::optional<Path> find_gnuplot();
// How to get one.
std::string gnuplot_advice();

// Draws all plots in one run. Throws `failed` with gnuplot's own words, or if it takes unreasonably
// long; unsupported if this gnuplot has no PNG and one is asked for.
std::vector<Picture> draw_plots(const Path& gnuplot, const std::vector<Plot>& plots, bool captioned,
                                bool png, const StopToken& stop = {});

// An SVG for a place inside of a page: its ids begin with `prefix`, it takes the page's text
// colour.
std::string inline_svg(const std::string& svg, const std::string& prefix);

}  // namespace qwb::report
