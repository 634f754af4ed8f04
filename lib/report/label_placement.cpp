#include "lib/report/label_placement.h"

#include <algorithm>
#include <array>
#include <utility>

namespace qwb::report {
namespace {

constexpr double kGap = 7;  // between a mark's centre and its label, at least
constexpr int kRings = 14;
constexpr double kRingStep = 11;  // pixels
constexpr std::array<std::pair<double, double>, 8> kDirections = {
    {{1, 0}, {0, -1}, {-1, 0}, {0, 1}, {1, -1}, {-1, -1}, {1, 1}, {-1, 1}}};

Box box_at(double x, double y, const LabelRequest& request) {
  return {x - request.width / 2, y - request.height / 2, x + request.width / 2,
          y + request.height / 2};
}

double overlap(const Box& a, const Box& b) {
  const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
  const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  return width > 0 && height > 0 ? width * height : 0;
}

double outside(const Box& box, const Box& inside) {
  return std::max(0.0, inside.left - box.left) + std::max(0.0, box.right - inside.right) +
         std::max(0.0, inside.top - box.top) + std::max(0.0, box.bottom - inside.bottom);
}

LabelPlace place_one(const LabelRequest& request, const std::vector<Box>& taken,
                     const Box& inside) {
  LabelPlace best{request.x, request.y, false, true};
  double least = -1;
  for (int ring = 0; ring < kRings; ++ring) {
    for (const auto& [dx, dy] : kDirections) {
      const double gap = kGap + kRingStep * ring;
      const double x = request.x + dx * (gap + request.width / 2),
                   y = request.y + dy * (gap + request.height / 2);
      const Box box = box_at(x, y, request);
      double harm = 1000 * outside(box, inside);
      for (const Box& other : taken) harm += overlap(box, other);
      if (harm == 0) return {x, y, ring > 0, false};
      if (least < 0 || harm < least) {
        least = harm;
        best = {x, y, ring > 0, true};
      }
    }
  }
  return best;
}

}  // namespace

std::vector<LabelPlace> place_labels(const std::vector<LabelRequest>& requests,
                                     std::vector<Box> taken, const Box& inside) {
  std::vector<LabelPlace> places;
  for (const LabelRequest& request : requests) {
    places.push_back(place_one(request, taken, inside));
    taken.push_back(box_at(places.back().x, places.back().y, request));
  }
  return places;
}

}  // namespace qwb::report
