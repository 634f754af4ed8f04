#include "lib/quantize/encode/ggml_table_quants.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "lib/base/bytes.h"
#include "lib/base/half.h"
#include "lib/codec/ggml_type.h"
#include "lib/quantize/encode/ggml_k_search.h"

namespace qwb {
namespace {

constexpr int kRun = 32;        // values that share a scale
constexpr int kRuns = 8;        // of a block of IQ4_XS
constexpr int kMostScale = 32;  // its scales are -32 to 31

constexpr int kTableLanes = 8;  // so that the compiler can use vectors

// Half way from the value before: of kIq4Values, from the second on.
constexpr std::array<float, 15> middles_of(const int8_t (&values)[16]) {
  std::array<float, 15> middles{};
  for (size_t k = 0; k < 15; ++k) middles[k] = 0.5f * static_cast<float>(values[k] + values[k + 1]);
  return middles;
}
constexpr std::array<float, 15> kMiddles = middles_of(kIq4Values);

// The codes of the values of kIq4Values nearest to x * factor; of two equally near the lower one.
void iq4_codes(const float* x, float factor, uint8_t* codes) {
  for (int i = 0; i < kRun; ++i) {
    int code = 0;
    for (const float middle : kMiddles) code += x[i] * factor > middle ? 1 : 0;
    codes[i] = static_cast<uint8_t>(code);
  }
}

// The value nearest to every half unit from -128 to 127.5: sixteen comparisons for each candidate
// of a search would take most of the time.
constexpr std::array<float, 512> values_at_halves() {
  std::array<float, 512> values{};
  for (size_t i = 0; i < values.size(); ++i) {
    size_t code = 0;
    while (code < 15 && 0.5f * static_cast<float>(i) - 128.0f > kMiddles[code]) ++code;
    values[i] = kIq4Values[code];
  }
  return values;
}
constexpr std::array<float, 512> kAtHalves = values_at_halves();

// Sums over x and the values nearest to x * factor, to half a unit.
struct TableSums {
  float products = 0, squares = 0;
};
TableSums iq4_sums(const float* x, float factor) {
  int place[kRun];
  const float halves = 2 * factor;
  for (int i = 0; i < kRun; ++i) {
    const float at = x[i] * halves + 256.5f, low = at > 0.0f ? at : 0.0f;
    place[i] = static_cast<int>(low < 511.0f ? low : 511.0f);
  }
  float products[kTableLanes] = {}, squares[kTableLanes] = {};
  for (int i = 0; i < kRun; i += kTableLanes) {
    for (int l = 0; l < kTableLanes; ++l) {
      const float value = kAtHalves[static_cast<size_t>(place[i + l])];
      products[l] += x[i + l] * value;
      squares[l] += value * value;
    }
  }
  TableSums sums;
  for (int l = 0; l < kTableLanes; ++l) sums.products += products[l], sums.squares += squares[l];
  return sums;
}

float iq4_error(const float* x, float scale, const uint8_t* codes) {
  float sum = 0;
  for (int i = 0; i < kRun; ++i) {
    const float error = x[i] - scale * static_cast<float>(kIq4Values[codes[i]]);
    sum += error * error;
  }
  return sum;
}

// The scale of least squared error over a line of candidates, each with its least-squares fit; the
// extreme value lies near either end of the table. 0 for values that are next to nothing.
float iq4_scale(const float* x) {
  float extreme = 0;
  for (int i = 0; i < kRun; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  if (std::fabs(extreme) < ggml_k::kNothing) return 0;
  float best = 0;
  double best_gain = -1;  // the squares of large values would overflow f32
  const auto consider = [&](float factor) {
    const TableSums sums = iq4_sums(x, factor);
    const double products = static_cast<double>(sums.products),
                 gain = products * products / static_cast<double>(sums.squares);
    if (gain <= best_gain) return;  // no value of the table is 0
    best = sums.products / sums.squares;
    best_gain = gain;
  };
  for (const float end : {-127.0f, 113.0f}) {
    for (int k = -6; k <= 6; ++k) consider((end + 3 * static_cast<float>(k)) / extreme);
  }
  for (int round = 0; round < 2; ++round) consider(1 / best);
  return best;
}

void put_halves(const uint8_t* codes, std::byte* at) {
  for (int i = 0; i < 16; ++i) at[i] = static_cast<std::byte>(codes[i] | codes[i + 16] << 4);
}

float inverse_of(float scale) {
  return scale != 0 ? 1 / scale : 0;
}

// Eight runs with integer scales in units of d.
struct Iq4Block {
  std::array<int, kRuns> scales{};
  std::array<uint8_t, kRun * kRuns> codes{};
  float error = 0;

  // Of the two integers beside fit / d, and those beside them, the one of least error.
  void round(const float* x, float unit, const std::array<float, kRuns>& fits) {
    error = 0;
    for (size_t run = 0; run < kRuns; ++run) {
      const float *values = x + kRun * run, wanted = unit != 0 ? fits[run] / unit : 0;
      const int first = static_cast<int>(ggml_k::clamped(
          ggml_k::nearest(wanted), static_cast<float>(-kMostScale), kMostScale - 1.0f));
      float least = -1;
      for (int s = std::max(-kMostScale, first - 1); s <= std::min(kMostScale - 1, first + 1);
           ++s) {
        const float scale = unit * static_cast<float>(s);
        uint8_t made[kRun];
        iq4_codes(values, inverse_of(scale), made);
        const float found = iq4_error(values, scale, made);
        if (least >= 0 && found >= least) continue;
        least = found, scales[run] = s;
        std::copy_n(made, kRun, codes.begin() + static_cast<std::ptrdiff_t>(kRun * run));
      }
      error += least;
    }
  }
  // The d of least squares for these scales and codes; 0: none.
  float best_unit(const float* x) const {
    double products = 0, squares = 0;
    for (size_t i = 0; i < codes.size(); ++i) {
      const double value = scales[i / kRun] * kIq4Values[codes[i]];
      products += static_cast<double>(x[i]) * value;
      squares += value * value;
    }
    return squares > 0 ? static_cast<float>(products / squares) : 0.0f;
  }
};

}  // namespace

void to_iq4_nl(const float* x, std::byte* block) {
  const uint16_t d = ggml_k::checked_half(iq4_scale(x));
  uint8_t codes[kRun];
  iq4_codes(x, inverse_of(f16_to_f32(d)), codes);
  store(block, d);
  put_halves(codes, block + 2);
}

void to_iq4_xs(const float* x, std::byte* block) {
  ggml_k::refuse_overflow(x);
  std::array<float, kRuns> fits;
  float extreme = 0;
  for (size_t run = 0; run < kRuns; ++run) {
    fits[run] = iq4_scale(x + kRun * run);
    if (std::fabs(fits[run]) > std::fabs(extreme)) extreme = fits[run];
  }
  uint16_t d = ggml_k::checked_half(extreme / static_cast<float>(-kMostScale));
  Iq4Block best;
  best.round(x, f16_to_f32(d), fits);
  for (int turn = 0; turn < 3; ++turn) {  // d for the integers, integers for d
    const uint16_t unit = f32_to_f16(best.best_unit(x));
    if (!ggml_k::is_finite_half(unit)) break;
    Iq4Block next = best;
    next.round(x, f16_to_f32(unit), fits);
    if (!(next.error < best.error)) break;
    best = next, d = unit;
  }
  store(block, d);
  uint16_t high = 0;
  std::array<int, 4> low{};
  for (size_t run = 0; run < kRuns; ++run) {
    const int code = best.scales[run] + kMostScale;
    high = static_cast<uint16_t>(high | (code >> 4) << (2 * run));
    low[run / 2] |= (code & 15) << (4 * (run % 2));
    put_halves(best.codes.data() + kRun * run, block + 8 + 16 * run);
  }
  store(block + 2, high);
  for (size_t i = 0; i < low.size(); ++i) block[4 + i] = static_cast<std::byte>(low[i]);
}

// The power of two by which the largest value is 4 to 8 of 12, or one of those beside it.
void to_mxfp4(const float* x, std::byte* block) {
  float largest = 0;
  for (int i = 0; i < kRun; ++i) largest = std::max(largest, std::fabs(x[i]));
  int power = 0;
  std::frexp(largest, &power);  // largest = [0.5, 1) 2^power
  const int first = largest > 0 ? std::clamp(power - 3 + 128, 0, 254) : 0;
  double least = -1;
  for (int e = std::max(0, first - 1); e <= std::min(252, first + 1); ++e) {
    const float scale = ggml_mxfp4_scale(e);
    uint8_t codes[kRun];
    double error = 0;
    for (int i = 0; i < kRun; ++i) {
      // By doubled values; ties go to the even code.
      const float magnitude = std::fabs(x[i]) / scale;
      static constexpr float kHalfWay[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};
      int code = 0;
      for (int k = 0; k < 7; ++k)
        code += magnitude > kHalfWay[k] || (magnitude == kHalfWay[k] && k % 2 == 1) ? 1 : 0;
      codes[i] = static_cast<uint8_t>(x[i] < 0 && code > 0 ? code | 8 : code);
      const double lost = static_cast<double>(x[i]) -
                          static_cast<double>(scale * static_cast<float>(kMxfp4Values[codes[i]]));
      error += lost * lost;
    }
    if (least >= 0 && error >= least) continue;
    least = error;
    block[0] = static_cast<std::byte>(e);
    put_halves(codes, block + 1);
  }
}

}  // namespace qwb
