// A plot as a script for gnuplot (5.4 and newer). The script sets neither terminal nor output, so
// that the same one makes an SVG or a PNG. Positions of labels are computed here: none covers
// another.
//
// All texts are single-quoted: gnuplot expands neither backquotes nor escapes nor macros there, and
// "noenhanced" keeps it from reading markup. Single quotes themselves become typographic ones:
// gnuplot 5.4 takes a doubled quote at the beginning of a text for the text's end.
#pragma once

#include <string>

#include "lib/report/plot.h"

namespace qwb::report {

inline constexpr int kPlotWidth = 480;  // pixels of an SVG; a PNG has twice as many
inline constexpr int kPlotFont = 13;
// The variable of a script that turns pixels into the terminal's measure of fonts; 1 for an SVG.
inline constexpr const char* kFontScale = "qwb_font_scale";

struct PlotScript {
  std::string text;
  int height = 0;  // pixels
};

// captioned: with title and note inside of the picture, for files that stand alone.
PlotScript gnuplot_script(const Plot& plot, bool captioned);

// 'It’s' for a gnuplot script.
std::string gnuplot_quoted(const std::string& text);

}  // namespace qwb::report
