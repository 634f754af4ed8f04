// Finds the choices that no other one beats in two costs.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "lib/report/report.h"

namespace qwb::report {

struct CostPair {
  double x = 0, y = 0;  // less is better
};
// True for those that no other beats: at most as much of both and less of one. Equal pairs stand
// together.
std::vector<bool> pareto_front(std::span<const CostPair> pairs);

// The possible values of a figure: the value itself if its metric is exact, else its bounds;
// nothing if its error is not known or it is noisy.
std::optional<Interval> possible_values(const Column& column, const Figure& figure);
// True if a is better than b whatever the two are within their bounds.
bool surely_better(const Column& column, const Figure& a, const Figure& b);

}  // namespace qwb::report
