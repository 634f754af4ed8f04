#include "lib/report/gnuplot_script.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lib/base/text.h"
#include "lib/report/clean_text.h"
#include "lib/report/drawing.h"

namespace qwb::report {
namespace {

constexpr double kTitleLine = 18, kNoteLine = 15;  // pixels
constexpr double kAxisRoom = 52, kLegendRow = 20;  // under the area: ticks, title; the legend
constexpr int kNoteFont = 11;
// Columns of captions, and of the titles of axes in the least favourable picture.
constexpr int64_t kTitleColumns = 59, kNoteColumns = 69, kAxisColumns = 47, kUprightColumns = 38;
// gnuplot's columns of a picture, and those of a legend's sample with the space around it.
constexpr int64_t kLegendColumns = 52, kSampleColumns = 7;

constexpr const char* kFrame = R"(reset
set encoding utf8
set border 3 linecolor rgb '#808080'
set tics nomirror scale 0.5 textcolor rgb 'black'
set format '%g'
set errorbars 0.6
set datafile missing 'NaN'
unset key
)";

// Lines of at most so many columns, at most `most` of them; what is longer ends in "…".
std::vector<std::string> wrapped(const std::string& text, int64_t columns, size_t most) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    const std::string longer = lines.empty() ? word : lines.back() + " " + word;
    if (!lines.empty() && (lines.size() == most || display_width(longer) <= columns))
      lines.back() = longer;  // the last line takes all that is left
    else
      lines.push_back(word);
    begin = end + 1;
  }
  for (std::string& line : lines) line = fit_width(line, columns);
  return lines;
}

// A picture from top to bottom, in pixels: titles, the area, its axis, the legend, notes.
struct Layout {
  Layout(const Plot& plot, const Drawing& drawing, bool captioned);
  // gnuplot's screens begin at the bottom.
  double screen(double y) const { return 1 - y / height; }

  std::vector<std::string> titles, notes;
  int64_t legend_columns = 1, legend_rows = 0;
  double area = 12, area_end = 0, legend = 0, note = 0;
  int height = 0;
};

Layout::Layout(const Plot& plot, const Drawing& drawing, bool captioned) {
  if (captioned) {
    titles = wrapped(plot.title, kTitleColumns, 2);
    notes = wrapped(plot.note, kNoteColumns, 4);
  }
  int64_t widest = 1;
  for (const std::string& title : drawing.legend) widest = std::max(widest, display_width(title));
  legend_columns = std::max<int64_t>(1, kLegendColumns / (kSampleColumns + widest));
  legend_rows = (std::ssize(drawing.legend) + legend_columns - 1) / legend_columns;
  area += kTitleLine * static_cast<double>(titles.size());
  area_end = area + drawing.height;
  legend = area_end + kAxisRoom;
  note = legend + kLegendRow * static_cast<double>(legend_rows);
  height = static_cast<int>(note + kNoteLine * static_cast<double>(notes.size())) + 6;
}

// Titles and notes, at the left edge.
std::string captions(const Layout& layout) {
  std::string text;
  for (size_t i = 0; i < layout.titles.size(); ++i)
    text += fmt::format("set label {} at screen 0.02, screen {:.5f}\n",
                        gnuplot_quoted(layout.titles[i]),
                        layout.screen(14 + kTitleLine * static_cast<double>(i)));
  for (size_t i = 0; i < layout.notes.size(); ++i)
    text += fmt::format(
        "set label {} at screen 0.02, screen {:.5f} textcolor rgb '{}' "
        "font sprintf(',%.3g', {} * {})\n",
        gnuplot_quoted(layout.notes[i]),
        layout.screen(layout.note + kNoteLine * (static_cast<double>(i) + 0.5)), kGrey, kNoteFont,
        kFontScale);
  return text;
}

std::string around_area(const Layout& layout, const Drawing& drawing) {
  std::string text = fmt::format(
      "set lmargin {}\nset rmargin {}\n"
      "set tmargin at screen {:.5f}\nset bmargin at screen {:.5f}\n"
      "set xlabel {} offset 0, 0.5\n"
      "set grid {} back linetype 1 linewidth 0.4 linecolor rgb '{}'\n",
      drawing.left, drawing.right, layout.screen(layout.area), layout.screen(layout.area_end),
      quoted_within(drawing.x_title, kAxisColumns), drawing.grid, kGrey);
  if (!drawing.y_title.empty())
    text += fmt::format("set label {} at screen 0.025, graph 0.5 center rotate by 90\n",
                        quoted_within(drawing.y_title, kUprightColumns));
  if (!drawing.legend.empty())
    text += fmt::format(
        "set key at screen 0, screen {:.5f} left top horizontal Left reverse samplen 2.5 maxcols "
        "{}\n",
        layout.screen(layout.legend), layout.legend_columns);
  return text;
}

}  // namespace

std::string gnuplot_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : clean_text(text)) out += c == '\'' ? std::string("’") : std::string(1, c);
  return out + "'";
}

PlotScript gnuplot_script(const Plot& plot, bool captioned) {
  const Drawing drawing =
      std::visit([](const auto& content) { return drawing_of(content); }, plot.content);
  const Layout layout(plot, drawing, captioned);
  return {kFrame + captions(layout) + around_area(layout, drawing) + drawing.commands,
          layout.height};
}

}  // namespace qwb::report
