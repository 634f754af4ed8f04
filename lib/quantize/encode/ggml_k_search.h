// The searches behind GGUF's K types (formats/gguf/gguf.md): 256 values into integer scales, their
// units in f16 and codes. For ggml_k_quants.cpp alone.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "lib/base/error.h"
#include "lib/base/half.h"

namespace qwb::ggml_k {

constexpr int kBlock = 256;
constexpr float kNothing = 1e-15f;  // sub-blocks below this magnitude are zero

// Nearest whole number, ties to even: |value| < 2^22.
inline float nearest(float value) {
  return (value + 12582912.0f) - 12582912.0f;
}

inline float clamped(float value, float low, float high) {
  return value < low ? low : value > high ? high : value;
}

inline bool is_finite_half(uint16_t half) {
  return (half & 0x7c00u) != 0x7c00u;
}

inline uint16_t checked_half(float value) {
  const uint16_t half = f32_to_f16(value);
  if (!is_finite_half(half))
    throw Error(ErrorKind::failed, "a scale of " + std::to_string(value) + " overflows f16", {},
                "keep this tensor in F16 or F32");
  return half;
}

// No block reaches further than 65504 * 128 * 32; the search works on smaller values only.
inline void refuse_overflow(const float* x) {
  const auto range = std::minmax_element(x, x + kBlock);
  checked_half(std::max(-*range.first, *range.second) / (128.0f * 32.0f));
}

// A sub-block as the search sees it.
struct Sub {
  const float* x;
  int count;
  const float* weights;  // of the squared errors
};

// w = scale * code - low with codes 0 .. levels and low >= 0.
struct Affine {
  float scale = 0, low = 0;
};

// Codes of the nearest values, and their weighted error.
inline float affine_error(const Sub& sub, Affine fit, int levels) {
  const float factor = fit.scale != 0 ? 1.0f / fit.scale : 0.0f;
  float sum = 0;
  for (int i = 0; i < sub.count; ++i) {
    const float code =
        clamped(nearest((sub.x[i] + fit.low) * factor), 0.0f, static_cast<float>(levels));
    const float error = fit.scale * code - fit.low - sub.x[i];
    sum += sub.weights[i] * error * error;
  }
  return sum;
}

// Least weighted squares for the codes that x * factor gives; false if they do not determine it.
inline bool refit(const Sub& sub, float least, float factor, int levels, Affine& fit) {
  float w = 0, wx = 0, l = 0, l2 = 0, xl = 0;
  for (int i = 0; i < sub.count; ++i) {
    const float code =
        clamped(nearest(factor * (sub.x[i] - least)), 0.0f, static_cast<float>(levels));
    const float weight = sub.weights[i];
    w += weight;
    wx += weight * sub.x[i];
    l += weight * code;
    l2 += weight * code * code;
    xl += weight * code * sub.x[i];
  }
  const float determinant = w * l2 - l * l;
  if (!(determinant > 0)) return false;
  fit = {(w * xl - wx * l) / determinant, -(l2 * wx - l * xl) / determinant};
  if (fit.low < 0) fit = {xl / l2, 0};
  return fit.scale > 0;
}

// The best of the candidates (levels + first + step * k) / range for the inverse of the scale.
inline Affine search_affine(const Sub& sub, int levels, float first, float step, int steps) {
  const float least = std::min(0.0f, *std::min_element(sub.x, sub.x + sub.count));
  const float range = *std::max_element(sub.x, sub.x + sub.count) - least;
  if (!(range > kNothing)) return {0, -least};
  Affine best{range / static_cast<float>(levels), -least};
  float best_error = affine_error(sub, best, levels);
  const auto consider = [&](Affine fit) {
    const float error = affine_error(sub, fit, levels);
    if (error < best_error) best = fit, best_error = error;
  };
  for (int k = 0; k <= steps; ++k) {
    Affine fit;
    const float factor =
        (static_cast<float>(levels) + first + step * static_cast<float>(k)) / range;
    if (refit(sub, least, factor, levels, fit)) consider(fit);
  }
  for (int round = 0; round < 2; ++round) {  // from the best codes once more
    Affine fit;
    if (!refit(sub, -best.low, 1.0f / best.scale, levels, fit)) break;
    consider(fit);
  }
  return best;
}

// A block whose units (d, dmin) are what its integer scales and codes ask for, and the integers
// again what the units ask for, as long as that lowers the error. First units of largest / most fit
// the sub-block of the largest scale alone.
template <typename Block, typename Fits>
Block settled(Block best, const float* x, const float* weights, const Fits& fits) {
  best.round(x, weights, fits);
  for (int turn = 0; turn < 3; ++turn) {
    Block next = best;
    if (!next.refit_units(x, weights)) break;
    next.round(x, weights, fits);
    if (!(next.error < best.error)) break;
    best = next;
  }
  return best;
}

// Sub-blocks of `Size` values with integer scales and minimums of up to `most`, in units of d and
// dmin.
template <int Size>
struct AffineBlock {
  static constexpr size_t kSubs = kBlock / Size;
  using Fits = std::array<Affine, kSubs>;
  int levels, most;
  std::array<int, kSubs> scales{}, lows{};
  uint16_t d = 0, dmin = 0;
  std::array<uint8_t, kBlock> codes{};
  float error = 0;  // weighted

  static Sub sub(const float* x, const float* weights, size_t s) {
    return {x + Size * s, Size, weights + Size * s};
  }

  // Integers and codes for d and dmin.
  void round(const float* x, const float* weights, const Fits& fits) {
    error = 0;
    codes.fill(0);
    const float unit = f16_to_f32(d), low_unit = f16_to_f32(dmin);
    for (size_t s = 0; s < kSubs; ++s) {
      error += round_scales(sub(x, weights, s), fits[s], scales[s], lows[s]);
      const float scale = unit * static_cast<float>(scales[s]),
                  low = low_unit * static_cast<float>(lows[s]);
      for (size_t i = Size * s; i < Size * (s + 1) && scale != 0; ++i)
        codes[i] = static_cast<uint8_t>(
            clamped(nearest((x[i] + low) / scale), 0.0f, static_cast<float>(levels)));
    }
  }

  // The integers nearest to the fit, or neighbours that do better with the codes they give; their
  // error.
  float round_scales(const Sub& sub, Affine fit, int& scale, int& low) const {
    const float unit = f16_to_f32(d), low_unit = f16_to_f32(dmin);
    const auto start = [&](float value, float step) {
      return step > 0
                 ? static_cast<int>(clamped(nearest(value / step), 0.0f, static_cast<float>(most)))
                 : 0;
    };
    const int first_scale = start(fit.scale, unit), first_low = start(fit.low, low_unit);
    float best = -1;
    for (int s = std::max(0, first_scale - 1); s <= std::min(most, first_scale + 1); ++s) {
      for (int m = std::max(0, first_low - 1); m <= std::min(most, first_low + 1); ++m) {
        const float found = affine_error(
            sub, {unit * static_cast<float>(s), low_unit * static_cast<float>(m)}, levels);
        if (best < 0 || found < best) best = found, scale = s, low = m;
      }
    }
    return best;
  }

  // d and dmin of least weighted squares over all sub-blocks, for the integers and codes there are;
  // false if these do not determine them.
  bool refit_units(const float* x, const float* weights) {
    double ss = 0, sm = 0, mm = 0, sx = 0, mx = 0;
    for (size_t i = 0; i < kBlock; ++i) {
      const double w = static_cast<double>(weights[i]), value = static_cast<double>(x[i]);
      const double s = scales[i / Size] * codes[i], m = lows[i / Size];
      ss += w * s * s;
      sm += w * s * m;
      mm += w * m * m;
      sx += w * s * value;
      mx += w * m * value;
    }
    const double determinant = ss * mm - sm * sm;
    if (!(ss > 0)) return false;
    double unit = sx / ss, low_unit = 0;
    if (determinant > 1e-9 * ss * mm) {
      low_unit = std::max(0.0, (sm * sx - ss * mx) / determinant);
      unit = (sx + low_unit * sm) / ss;
    }
    d = f32_to_f16(static_cast<float>(unit));
    dmin = f32_to_f16(static_cast<float>(low_unit));
    return unit > 0 && is_finite_half(d) && is_finite_half(dmin);
  }
};

// The candidates of search_affine for one type.
struct Line {
  float first;
  int steps;
};

// weigh(x, weights): of a sub-block.
template <int Size, typename Weigh>
AffineBlock<Size> best_affine(const float* x, int levels, int most, Line line, Weigh weigh) {
  refuse_overflow(x);
  AffineBlock<Size> block{levels, most};
  std::array<float, kBlock> weights;
  typename AffineBlock<Size>::Fits fits;
  float most_scale = 0, most_low = 0;
  for (size_t s = 0; s < block.kSubs; ++s) {
    weigh(x + Size * s, weights.data() + Size * s);
    fits[s] = search_affine(block.sub(x, weights.data(), s), levels, line.first, 0.1f, line.steps);
    most_scale = std::max(most_scale, fits[s].scale);
    most_low = std::max(most_low, fits[s].low);
  }
  block.d = checked_half(most_scale / static_cast<float>(most));
  block.dmin = checked_half(most_low / static_cast<float>(most));
  return settled(block, x, weights.data(), fits);
}

// w = scale * code with codes -levels .. levels - 1: the scale of least squares over a line of
// candidates.
inline float search_symmetric(const Sub& sub, int levels) {
  const float* x = sub.x;
  const int count = sub.count;
  float extreme = 0;
  for (int i = 0; i < count; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  if (std::fabs(extreme) < kNothing) return 0;
  float best = 0;
  double best_gain = -1;  // the squares of large values would overflow f32
  const auto consider = [&](float factor) {
    float xl = 0, l2 = 0;
    for (int i = 0; i < count; ++i) {
      const float code = clamped(nearest(factor * x[i]), static_cast<float>(-levels),
                                 static_cast<float>(levels - 1));
      xl += sub.weights[i] * x[i] * code;
      l2 += sub.weights[i] * code * code;
    }
    if (!(l2 > 0)) return;
    const double gain = static_cast<double>(xl) * static_cast<double>(xl) / static_cast<double>(l2);
    if (gain <= best_gain) return;
    best = xl / l2;
    best_gain = gain;
  };
  for (int sign :
       {-1, 1}) {  // the extreme at the end of the codes that has one more, or at the other
    const float reach = static_cast<float>(sign < 0 ? levels : levels - 1);
    for (int k = -9; k <= 9; ++k)
      consider(static_cast<float>(sign) * (reach + 0.1f * static_cast<float>(k)) / extreme);
  }
  for (int round = 0; round < 2 && best != 0; ++round) consider(1.0f / best);
  return best;
}

// 16 sub-blocks of 16 with signed integer scales -most .. most - 1 in units of d.
struct SymmetricBlock {
  int levels, most;
  std::array<int, 16> scales{};
  uint16_t d = 0;
  std::array<uint8_t, kBlock> codes{};  // plus levels
  float error = 0;

  // Integers and codes for d.
  void round(const float* x, const float* weights, const std::array<float, 16>& fits) {
    error = 0;
    codes.fill(static_cast<uint8_t>(levels));
    const float unit = f16_to_f32(d);
    for (size_t s = 0; s < 16; ++s) {
      error += round_scale({x + 16 * s, 16, weights + 16 * s}, fits[s], scales[s]);
      const float scale = unit * static_cast<float>(scales[s]);
      for (size_t i = 16 * s; i < 16 * s + 16 && scale != 0; ++i)
        codes[i] = static_cast<uint8_t>(
            levels + static_cast<int>(clamped(nearest(x[i] / scale), static_cast<float>(-levels),
                                              static_cast<float>(levels - 1))));
    }
  }

  float round_scale(const Sub& sub, float fit, int& best) const {
    const float unit = f16_to_f32(d);
    const int first = unit == 0
                          ? 0
                          : static_cast<int>(clamped(nearest(fit / unit), static_cast<float>(-most),
                                                     static_cast<float>(most - 1)));
    float best_error = -1;
    for (int candidate = std::max(-most, first - 1); candidate <= std::min(most - 1, first + 1);
         ++candidate) {
      const float scale = unit * static_cast<float>(candidate),
                  factor = scale != 0 ? 1.0f / scale : 0.0f;
      float sum = 0;
      for (int i = 0; i < 16; ++i) {
        const float code = clamped(nearest(sub.x[i] * factor), static_cast<float>(-levels),
                                   static_cast<float>(levels - 1));
        sum += sub.weights[i] * (scale * code - sub.x[i]) * (scale * code - sub.x[i]);
      }
      if (best_error < 0 || sum < best_error) best_error = sum, best = candidate;
    }
    return best_error;
  }

  bool refit_units(const float* x, const float* weights) {
    double squares = 0, products = 0;
    for (size_t i = 0; i < kBlock; ++i) {
      const double q = scales[i / 16] * (codes[i] - levels);
      const double weighted = static_cast<double>(weights[i]) * q;
      squares += weighted * q;
      products += weighted * static_cast<double>(x[i]);
    }
    if (!(squares > 0)) return false;
    d = f32_to_f16(static_cast<float>(products / squares));
    return is_finite_half(d);
  }
};

template <typename Weigh>
SymmetricBlock best_symmetric(const float* x, int levels, int most, Weigh weigh) {
  refuse_overflow(x);
  SymmetricBlock block{levels, most};
  std::array<float, kBlock> weights;
  std::array<float, 16> fits;
  float extreme = 0;
  for (size_t s = 0; s < 16; ++s) {
    weigh(x + 16 * s, weights.data() + 16 * s);
    fits[s] = search_symmetric({x + 16 * s, 16, weights.data() + 16 * s}, levels);
    if (std::fabs(fits[s]) > std::fabs(extreme)) extreme = fits[s];
  }
  if (std::fabs(extreme) >= kNothing) block.d = checked_half(extreme / static_cast<float>(-most));
  return settled(block, x, weights.data(), fits);
}

}  // namespace qwb::ggml_k
