// Places the labels of marks so that none covers a mark, a line or another label.
#pragma once

#include <vector>

namespace qwb::report {

struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;  // pixels, downwards
  bool meets(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

struct LabelRequest {
  double x = 0, y = 0;           // of the mark
  double width = 0, height = 0;  // of the text
};

struct LabelPlace {
  double x = 0, y = 0;   // of the text's centre
  bool far = false;      // so far off that it wants a line to its mark
  bool crowded = false;  // no free place was found; it lies where it does least harm
};

// `taken`: marks and lines; `inside`: labels stay in it. In the order of the requests: the nearest
// free place of eight directions at growing distances.
std::vector<LabelPlace> place_labels(const std::vector<LabelRequest>& requests,
                                     std::vector<Box> taken, const Box& inside);

}  // namespace qwb::report
