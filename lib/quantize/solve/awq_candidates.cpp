// The candidates of AWQ's search; see awq_search.h.
#include <algorithm>
#include <cmath>

#include "lib/base/half.h"
#include "lib/quantize/solve/awq_search.h"

namespace qwb {
namespace {

constexpr int kRatios = 20;
// Channels that are nearly silent on the calibration text must not lose their weights altogether.
constexpr double kFloor = 1e-4;
// f16 from its smallest normal number to half its largest: what is scaled stays away from both
// ends.
constexpr float kSmallest = 0x1p-14f, kLargest = 32768;

// The scale nearest to this one for which gain / scale, less the offset of the norm, is stored
// without error.
float storable(float scale, float gain, float offset, DType type) {
  if (gain == 0) return 1;  // the channel is 0 always
  float stored = gain / scale - offset;
  if (type == DType::f16) stored = f16_to_f32(f32_to_f16(stored));
  if (type == DType::bf16) stored = bf16_to_f32(f32_to_bf16(stored));
  const float exact = gain / (stored + offset);
  return std::isfinite(exact) && exact > 0 ? exact : 1;
}

float within_range(float scale, float divided, float weight) {
  float low = static_cast<float>(kFloor), high = 1 / static_cast<float>(kFloor);
  if (divided > 0) {
    low = std::max(low, divided / kLargest);
    high = std::min(high, divided / kSmallest);
  }
  if (weight > 0) high = std::min(high, kLargest / weight);
  // What is out of range already is not the scales' affair.
  return std::clamp(scale, std::min(low, 1.0f), std::max(high, 1.0f));
}

// s / sqrt(max s * min s), in range; false if it is not finite.
bool finish(const InputGroupTask& group, const ScaleStatistics& statistics,
            const std::vector<double>& raw, std::vector<float>& scales) {
  const auto [least, most] = std::minmax_element(raw.begin(), raw.end());
  const double middle = std::sqrt(*least) * std::sqrt(*most);
  if (!std::isfinite(middle) || middle <= 0) return false;
  for (size_t k = 0; k < raw.size(); ++k) {
    const auto scale = static_cast<float>(raw[k] / middle);
    if (!std::isfinite(scale)) return false;
    scales.push_back(within_range(scale, group.divided[k], statistics.largest_weight[k]));
    if (!group.gains.empty())
      scales.back() = storable(scales.back(), group.gains[k], group.gain_offset, group.gain_type);
  }
  return true;
}

}  // namespace

std::vector<ScaleCandidate> scale_candidates(const InputGroupTask& group,
                                             const ScaleStatistics& statistics) {
  const size_t count = statistics.magnitude.size();
  double mean = 0;
  for (const double x : statistics.magnitude) mean += x / static_cast<double>(count);
  std::vector<ScaleCandidate> all;
  for (const bool both : {false, true}) {
    for (int step = both ? 0 : 1; step < kRatios; ++step) {
      ScaleCandidate candidate{
          both ? "both" : "activations", static_cast<double>(step) / kRatios, {}};
      std::vector<double> raw(count);
      for (size_t k = 0; k < count; ++k) {
        raw[k] = std::pow(std::max(statistics.magnitude[k], kFloor * mean), candidate.ratio);
        if (both) raw[k] /= std::pow(statistics.weight[k], 1 - candidate.ratio) + kFloor;
      }
      if (finish(group, statistics, raw, candidate.scales)) all.push_back(std::move(candidate));
    }
  }
  return all;
}

}  // namespace qwb
