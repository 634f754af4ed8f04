// Figures as people read them.
#pragma once

#include <string>

#include "lib/report/report.h"

namespace qwb::report {

// "6.35 MB", "31.040", "1.0239", "99.12 %", "152 t/s"
std::string value_text(Quantity unit, double value);
// "31.040 ± 0.815", "~0.12 J" (an estimate), "n/a"
std::string figure_text(const Column& column, const Figure& figure);
// "29.4 to 32.7"; empty without bounds
std::string bounds_text(const Column& column, const Figure& figure);
// "31.040 (95 %: 29.4 to 32.7)": how a sentence cites a figure
std::string cited(const Column& column, const Figure& figure);
// "95 % interval", "least to most of the repetitions"; empty for other bounds
std::string bounds_name(BoundsKind kind);

// With a capital first letter, where that is ASCII.
std::string capitalized(const std::string& text);

// The unit of an axis for values up to `most`, and the factor for values.
struct AxisUnit {
  std::string name;  // "MB"; empty: a pure number
  double factor = 1;
};
AxisUnit axis_unit(Quantity unit, double most);

}  // namespace qwb::report
