#include "lib/report/pareto.h"

namespace qwb::report {

std::vector<bool> pareto_front(std::span<const CostPair> pairs) {
  std::vector<bool> front;
  for (const CostPair& p : pairs) {
    bool beaten = false;
    for (const CostPair& q : pairs) beaten |= q.x <= p.x && q.y <= p.y && (q.x < p.x || q.y < p.y);
    front.push_back(!beaten);
  }
  return front;
}

std::optional<Interval> possible_values(const Column& column, const Figure& figure) {
  if (!figure.value || figure.noisy) return std::nullopt;
  if (column.metric.bounds == BoundsKind::exact) return Interval{*figure.value, *figure.value};
  if (column.metric.bounds == BoundsKind::none) return std::nullopt;
  return figure.bounds;
}

bool surely_better(const Column& column, const Figure& a, const Figure& b) {
  const auto x = possible_values(column, a), y = possible_values(column, b);
  if (!x || !y) return false;
  return column.metric.better == Better::lower ? x->high < y->low : x->low > y->high;
}

}  // namespace qwb::report
