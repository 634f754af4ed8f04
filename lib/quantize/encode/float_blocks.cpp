#include "lib/quantize/encode/float_blocks.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "lib/base/parallel.h"
#include "lib/codec/float_blocks.h"
#include "lib/exec/cpu/simd.h"

namespace qwb {
namespace {

constexpr int kLanes = 8;    // floats per vector in PyTorch's sum
constexpr int kColumns = 4;  // vectors added side by side
constexpr int kLevels = 4;
constexpr float kLeastDivisor = 1e-38f;

// Codes in ascending order of their values; 0 before 8 (-0), so that an exact zero becomes 0 and
// the values just above it become 8.
constexpr std::array<uint8_t, 16> kNf4Order = {0, 1, 2,  3,  4,  5,  6,  7,
                                               8, 9, 10, 11, 12, 13, 14, 15};
constexpr std::array<uint8_t, 16> kFp4Order = {11, 10, 13, 12, 15, 14, 9, 0,
                                               8,  1,  6,  7,  4,  5,  2, 3};

// The bounds are the midpoints of neighbours, ties to the lower one.
constexpr Ranking make_ranking(const std::array<float, 16>& values,
                               const std::array<uint8_t, 16>& order) {
  std::array<float, 16> points{};
  std::array<float, 15> bounds{};
  for (size_t i = 0; i < 16; ++i) points[i] = values[order[i]];
  for (size_t i = 0; i < 15; ++i) bounds[i] = (points[i] + points[i + 1]) / 2;
  return {points, order, bounds};
}

constexpr Ranking kNf4Ranking = make_ranking(kNf4, kNf4Order);
constexpr Ranking kFp4Ranking = make_ranking(kFp4, kFp4Order);

// The dynamic map before sorting: for i = 0..6 the midpoints of 2^i equal steps of [0.1, 1], times
// 10^(i-6), with both signs; 0; 1. linspace runs up from 0.1 in its first half and down from 1 in
// the second, with one rounding per point (fused), as in PyTorch.
std::array<float, 256> make_dynamic_map() {
  std::array<float, 256> map{};
  size_t at = 0;
  double power = 1e-6;
  constexpr std::array<double, 7> kPowers = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0};
  for (int i = 0; i < 7; ++i) {
    power = kPowers[i];
    const int points = (1 << i) + 1;
    const float step = (1.0f - 0.1f) / static_cast<float>(points - 1);
    const auto point = [&](int k) {
      return k < points / 2 ? std::fma(step, static_cast<float>(k), 0.1f)
                            : std::fma(-step, static_cast<float>(points - 1 - k), 1.0f);
    };
    for (int k = 0; k + 1 < points; ++k) {
      const float mean = (point(k) + point(k + 1)) / 2.0f;
      const float value = static_cast<float>(power) * mean;
      map[at++] = value;
      map[at++] = -value;
    }
  }
  map[at++] = 0.0f;
  map[at] = 1.0f;
  std::sort(map.begin(), map.end());
  return map;
}

constexpr int kBins = 65536;  // over [-1, 1]

// For each bin the code nearest to its middle; the lower one on a tie.
std::vector<uint8_t> make_bin_codes() {
  const auto& map = dynamic_map();
  std::vector<uint8_t> codes(kBins);
  for (int bin = 0; bin < kBins; ++bin) {
    const float middle = static_cast<float>(bin) / (kBins - 1) * 2.0f - 1.0f;
    const auto above = std::lower_bound(map.begin() + 1, map.end() - 1, middle);
    const auto below = above - 1;
    const bool lower = std::fabs(middle - *below) <= std::fabs(*above - middle);
    codes[bin] = static_cast<uint8_t>((lower ? below : above) - map.begin());
  }
  return codes;
}

uint8_t dynamic_code(float value) {
  static const std::vector<uint8_t> codes = make_bin_codes();
  const float clamped = std::clamp(value, -1.0f, 1.0f);
  const float bin = (clamped + 1.0f) * 0.5f * (kBins - 1) + 0.5f;
  return codes[static_cast<size_t>(bin)];
}

using Lanes = std::array<float, kLanes>;

template <int kWidth>
void add(Lanes& sum, const float* values) {
  for (int l = 0; l < kWidth; ++l) sum[l] += values[l];
}

// Sums `count` vectors of kWidth floats, lane by lane: four columns side by side, each a cascade
// whose lower levels are emptied into the next one after every 2^power additions.
template <int kWidth>
Lanes cascade_lanes(const float* values, int64_t count) {
  const int64_t rows = count / kColumns;
  const int log2 =
      rows <= 1 ? 0 : static_cast<int>(std::bit_width(static_cast<uint64_t>(rows - 1)));
  const int power = std::max(4, log2 / kLevels);
  const int64_t step = int64_t{1} << power;
  std::array<std::array<Lanes, kColumns>, kLevels> sums{};
  const auto add_row = [&](int64_t row) {
    for (int64_t c = 0; c < kColumns; ++c)
      add<kWidth>(sums[0][c], values + (row * kColumns + c) * kWidth);
  };
  int64_t row = 0;
  while (row + step <= rows) {
    for (int64_t end = row + step; row < end; ++row) add_row(row);
    for (size_t level = 1; level < kLevels; ++level) {
      for (size_t c = 0; c < kColumns; ++c) add<kWidth>(sums[level][c], sums[level - 1][c].data());
      sums[level - 1] = {};
      if ((row & ((step - 1) << (level * static_cast<size_t>(power)))) != 0) break;
    }
  }
  for (; row < rows; ++row) add_row(row);
  for (size_t level = 1; level < kLevels; ++level) {
    for (size_t c = 0; c < kColumns; ++c) add<kWidth>(sums[0][c], sums[level][c].data());
  }
  for (int64_t rest = rows * kColumns; rest < count; ++rest)
    add<kWidth>(sums[0][0], values + rest * kWidth);
  for (size_t c = 1; c < kColumns; ++c) add<kWidth>(sums[0][0], sums[0][c].data());
  return sums[0][0];
}

}  // namespace

const std::array<float, 256>& dynamic_map() {
  static const std::array<float, 256> map = make_dynamic_map();
  return map;
}

void quantize_float_blocks(const float* values, int64_t count, FloatBlocks::Table table,
                           int64_t block_size, float* absmax, std::byte* codes, PointSums* sums) {
  const Ranking& ranking = table == FloatBlocks::Table::nf4 ? kNf4Ranking : kFp4Ranking;
  const int64_t whole = count / block_size;
  rank_blocks(values, whole, block_size, kLeastDivisor, ranking, {absmax, codes, sums});
  const int64_t rest = count - whole * block_size;
  if (rest == 0) return;
  // The last, short block is divided instead of multiplied, and an odd length is padded.
  const float* block = values + whole * block_size;
  const float divisor = std::max(simd::max_magnitude(block, rest), kLeastDivisor);
  std::vector<float> scaled(static_cast<size_t>(rest + rest % 2));
  for (int64_t i = 0; i < rest; ++i) scaled[i] = block[i] / divisor;
  absmax[whole] = divisor;
  const PointSums of_scaled =
      rank_pairs(scaled.data(), rest + rest % 2, 1, 1, ranking, codes + whole * block_size / 2);
  sums[whole] = {of_scaled.error * divisor * divisor, of_scaled.cross * divisor,
                 of_scaled.norm * divisor * divisor};
}

NestedScales quantize_scales(const std::vector<float>& absmax, const Context& context) {
  NestedScales nested;
  const auto count = static_cast<int64_t>(absmax.size());
  nested.offset = cascade_sum(absmax.data(), count) / static_cast<float>(count);
  nested.codes.resize(absmax.size());
  nested.absmax.resize(static_cast<size_t>(ceil_div(count, kNestedBlock)));
  parallel_ranges(context, count, kNestedBlock, [&](int64_t begin, int64_t end) {
    std::array<float, kNestedBlock> centred{};
    for (int64_t i = begin; i < end; ++i) centred[i - begin] = absmax[i] - nested.offset;
    const float largest = simd::max_magnitude(centred.data(), end - begin);
    nested.absmax[begin / kNestedBlock] = largest;
    // Equal scales: nothing is left to code, any code times 0 is 0.
    const float factor = largest > 0 ? 1.0f / largest : 0.0f;
    for (int64_t i = begin; i < end; ++i) {
      nested.codes[i] = largest > 0 ? dynamic_code(centred[i - begin] * factor) : 0;
    }
  });
  return nested;
}

float cascade_sum(const float* values, int64_t count) {
  if (count < kLanes) return cascade_lanes<1>(values, count)[0];
  const int64_t vectors = count / kLanes;
  const Lanes lanes = cascade_lanes<kLanes>(values, vectors);
  float sum = 0;
  for (int64_t i = vectors * kLanes; i < count; ++i) sum += values[i];
  for (const float lane : lanes) sum += lane;
  return sum;
}

}  // namespace qwb
