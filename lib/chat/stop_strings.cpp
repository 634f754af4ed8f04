#include "lib/chat/stop_strings.h"

#include <algorithm>
#include <utility>

#include "lib/base/error.h"

namespace qwb {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    if (stop.empty()) throw Error(ErrorKind::usage, "a stop string must not be empty");
  }
}

std::string StopStrings::push(std::string_view text) {
  if (!found_.empty()) return {};
  const size_t known = held_.size();  // no stop string ends in these
  held_ += text;
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t from = known + 1 > stop.size() ? known + 1 - stop.size() : 0;
    const size_t at = held_.find(stop, from);
    if (at == std::string::npos) continue;
    if (at + stop.size() < end || (at + stop.size() == end && stop.size() > found_.size())) {
      end = at + stop.size();
      found_ = stop;
    }
  }
  if (!found_.empty()) {
    held_.resize(end - found_.size());
    return std::exchange(held_, {});
  }
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (size_t size = std::min(stop.size() - 1, held_.size()); size > keep; --size) {
      if (held_.compare(held_.size() - size, size, stop, 0, size) == 0) keep = size;
    }
  }
  std::string certain = held_.substr(0, held_.size() - keep);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopStrings::finish() {
  return std::exchange(held_, {});
}

}  // namespace qwb
