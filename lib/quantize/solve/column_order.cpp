#include "lib/quantize/solve/column_order.h"

#include <algorithm>
#include <numeric>

namespace qwb {
namespace {

std::vector<int64_t> iota(int64_t count) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  return order;
}

template <typename Iterator>
void sort_descending(Iterator begin, Iterator end, const std::vector<float>& by) {
  std::stable_sort(begin, end, [&](int64_t a, int64_t b) { return by[a] > by[b]; });
}

std::vector<int64_t> group_aware(const std::vector<float>& importance, int64_t group_size) {
  const auto columns = static_cast<int64_t>(importance.size());
  const int64_t whole = columns / group_size;
  std::vector<float> largest;
  for (int64_t g = 0; g < whole; ++g) {
    const auto first = importance.begin() + g * group_size;
    largest.push_back(*std::max_element(first, first + group_size));
  }
  std::vector<int64_t> groups = iota(whole);
  sort_descending(groups.begin(), groups.end(), largest);
  if (whole * group_size < columns) groups.push_back(whole);
  std::vector<int64_t> order;
  for (const int64_t group : groups) {
    const auto first = static_cast<std::ptrdiff_t>(order.size());
    for (int64_t c = group * group_size; c < std::min(columns, (group + 1) * group_size); ++c)
      order.push_back(c);
    sort_descending(order.begin() + first, order.end(), importance);
  }
  return order;
}

}  // namespace

std::vector<int64_t> column_order(ColumnOrder kind, const std::vector<float>& importance,
                                  int64_t group_size) {
  if (kind == ColumnOrder::group_aware) return group_aware(importance, group_size);
  std::vector<int64_t> order = iota(static_cast<int64_t>(importance.size()));
  if (kind == ColumnOrder::static_groups) sort_descending(order.begin(), order.end(), importance);
  return order;
}

}  // namespace qwb
