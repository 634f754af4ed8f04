#include "lib/quantize/ggml_k_quants.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "lib/base/error.h"
#include "lib/base/half.h"

namespace qwb {
namespace {

constexpr int kBlock = 256;
constexpr float kNothing = 1e-15f;  // sub-blocks below this magnitude are zero

// Nearest whole number, ties to even: |value| < 2^22.
float nearest(float value) {
  return (value + 12582912.0f) - 12582912.0f;
}

float clamped(float value, float low, float high) {
  return value < low ? low : value > high ? high : value;
}

uint16_t checked_half(float value) {
  const uint16_t half = f32_to_f16(value);
  if ((half & 0x7c00u) == 0x7c00u)
    throw Error(ErrorKind::failed, "a scale of " + std::to_string(value) + " overflows f16", {},
                "keep this tensor in F16 or F32");
  return half;
}

// No block reaches further than 65504 * 128 * 32; the search works on smaller values only.
void refuse_overflow(const float* x) {
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
float affine_error(const Sub& sub, Affine fit, int levels) {
  const float factor = fit.scale != 0 ? 1.0f / fit.scale : 0.0f;
  float sum = 0;
  for (int i = 0; i < sub.count; ++i) {
    const float code = clamped(nearest((sub.x[i] + fit.low) * factor), 0.0f, static_cast<float>(levels));
    const float error = fit.scale * code - fit.low - sub.x[i];
    sum += sub.weights[i] * error * error;
  }
  return sum;
}

// Least weighted squares for the codes that x * factor gives; false if they do not determine it.
bool refit(const Sub& sub, float least, float factor, int levels, Affine& fit) {
  float w = 0, wx = 0, l = 0, l2 = 0, xl = 0;
  for (int i = 0; i < sub.count; ++i) {
    const float code = clamped(nearest(factor * (sub.x[i] - least)), 0.0f, static_cast<float>(levels));
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
Affine search_affine(const Sub& sub, int levels, float first, float step, int steps) {
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
    const float factor = (static_cast<float>(levels) + first + step * static_cast<float>(k)) / range;
    if (refit(sub, least, factor, levels, fit)) consider(fit);
  }
  for (int round = 0; round < 2; ++round) {  // from the best codes once more
    Affine fit;
    if (!refit(sub, -best.low, 1.0f / best.scale, levels, fit)) break;
    consider(fit);
  }
  return best;
}

// Sub-blocks of `Size` values with integer scales and minimums of up to `most`, in units of d and dmin.
template <int Size>
struct AffineBlock {
  static constexpr int kSubs = kBlock / Size;
  std::array<int, kSubs> scales{}, lows{};
  uint16_t d = 0, dmin = 0;
  std::array<uint8_t, kBlock> codes{};

  // weigh(x, weights): of a sub-block.
  template <typename Weigh>
  AffineBlock(const float* x, int levels, int most, float first, int steps, Weigh weigh) {
    refuse_overflow(x);
    std::array<float, kBlock> weights;
    std::array<Affine, kSubs> fits;
    float most_scale = 0, most_low = 0;
    for (int s = 0; s < kSubs; ++s) {
      weigh(x + Size * s, weights.data() + Size * s);
      fits[static_cast<size_t>(s)] =
          search_affine({x + Size * s, Size, weights.data() + Size * s}, levels, first, 0.1f, steps);
      most_scale = std::max(most_scale, fits[static_cast<size_t>(s)].scale);
      most_low = std::max(most_low, fits[static_cast<size_t>(s)].low);
    }
    d = checked_half(most_scale / static_cast<float>(most));
    dmin = checked_half(most_low / static_cast<float>(most));
    const float unit = f16_to_f32(d), low_unit = f16_to_f32(dmin);
    for (int s = 0; s < kSubs; ++s) {
      const Sub sub{x + Size * s, Size, weights.data() + Size * s};
      round_scales(sub, fits[static_cast<size_t>(s)], unit, low_unit, levels, most,
                   scales[static_cast<size_t>(s)], lows[static_cast<size_t>(s)]);
      const float scale = unit * static_cast<float>(scales[static_cast<size_t>(s)]);
      const float low = low_unit * static_cast<float>(lows[static_cast<size_t>(s)]);
      for (int i = 0; i < Size && scale != 0; ++i)
        codes[static_cast<size_t>(Size) * static_cast<size_t>(s) + static_cast<size_t>(i)] =
            static_cast<uint8_t>(
                clamped(nearest((sub.x[i] + low) / scale), 0.0f, static_cast<float>(levels)));
    }
  }

  // The integers nearest to the fit, or neighbours that do better with the codes they give.
  static void round_scales(const Sub& sub, Affine fit, float unit, float low_unit, int levels, int most,
                           int& scale, int& low) {
    const auto start = [&](float value, float step) {
      return step > 0 ? static_cast<int>(clamped(nearest(value / step), 0.0f, static_cast<float>(most))) : 0;
    };
    const int first_scale = start(fit.scale, unit), first_low = start(fit.low, low_unit);
    float best = -1;
    for (int s = std::max(0, first_scale - 1); s <= std::min(most, first_scale + 1); ++s) {
      for (int m = std::max(0, first_low - 1); m <= std::min(most, first_low + 1); ++m) {
        const float error =
            affine_error(sub, {unit * static_cast<float>(s), low_unit * static_cast<float>(m)}, levels);
        if (best < 0 || error < best) best = error, scale = s, low = m;
      }
    }
  }
};

// Measured on the demo llama (12 windows of 512 tokens): perplexity 62.6 with equal weights for Q2_K, 88.1
// with |x|; Q3_K 30.8, 33.0 with x^2; Q6_K 25.885, 25.966. For Q4_K and Q5_K the magnitude is as good or
// better.
void equal_weights(const float* /*x*/, float* weights) {
  std::fill(weights, weights + 16, 1.0f);
}

// Large values matter more; the mean keeps small ones from counting for nothing.
void magnitude_weights(const float* x, float* weights) {
  float squares = 0;
  for (int i = 0; i < 32; ++i) squares += x[i] * x[i];
  const float mean = std::sqrt(squares / 32.0f);
  for (int i = 0; i < 32; ++i) weights[i] = mean + std::fabs(x[i]);
}

// What Q4_K and Q5_K begin with: d, dmin, then scales and minimums of six bits packed in twelve bytes.
void put_head(const AffineBlock<32>& fit, std::byte* block) {
  store(block, fit.d);
  store(block + 2, fit.dmin);
  const auto &scales = fit.scales, &lows = fit.lows;
  std::array<int, 12> bytes{};
  for (size_t u = 0; u < 4; ++u) {
    bytes[u] = scales[u] | (scales[u + 4] >> 4) << 6;
    bytes[u + 4] = lows[u] | (lows[u + 4] >> 4) << 6;
    bytes[u + 8] = (scales[u + 4] & 15) | (lows[u + 4] & 15) << 4;
  }
  for (size_t i = 0; i < 12; ++i) block[4 + i] = static_cast<std::byte>(bytes[i]);
}

// The low four bits: values 64 n + l and 64 n + 32 + l share byte 32 n + l.
void put_pairs(const std::array<uint8_t, kBlock>& codes, std::byte* at) {
  for (size_t n = 0; n < 4; ++n) {
    for (size_t l = 0; l < 32; ++l)
      at[32 * n + l] = static_cast<std::byte>((codes[64 * n + l] & 15) | (codes[64 * n + 32 + l] & 15) << 4);
  }
}

// Two bits each: values 128 n + 32 j + l share byte 32 n + l. `shift`: which bits of the code.
void put_quarters(const std::array<uint8_t, kBlock>& codes, int shift, std::byte* at) {
  for (size_t n = 0; n < 2; ++n) {
    for (size_t l = 0; l < 32; ++l) {
      int byte = 0;
      for (size_t j = 0; j < 4; ++j) byte |= (codes[128 * n + 32 * j + l] >> shift & 3) << (2 * j);
      at[32 * n + l] = static_cast<std::byte>(byte);
    }
  }
}

// w = scale * code with codes -levels .. levels - 1: the scale of least squares over a line of
// candidates.
float search_symmetric(const float* x, int count, int levels) {
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
      const float code =
          clamped(nearest(factor * x[i]), static_cast<float>(-levels), static_cast<float>(levels - 1));
      xl += x[i] * code;
      l2 += code * code;
    }
    if (!(l2 > 0)) return;
    const double gain = static_cast<double>(xl) * static_cast<double>(xl) / static_cast<double>(l2);
    if (gain <= best_gain) return;
    best = xl / l2;
    best_gain = gain;
  };
  for (int sign : {-1, 1}) {  // the extreme at the end of the codes that has one more, or at the other
    const float reach = static_cast<float>(sign < 0 ? levels : levels - 1);
    for (int k = -9; k <= 9; ++k)
      consider(static_cast<float>(sign) * (reach + 0.1f * static_cast<float>(k)) / extreme);
  }
  for (int round = 0; round < 2 && best != 0; ++round) consider(1.0f / best);
  return best;
}

// 16 sub-blocks of 16 with signed integer scales -most .. most - 1 in units of d.
struct SymmetricBlock {
  std::array<int, 16> scales{};
  uint16_t d = 0;
  std::array<uint8_t, kBlock> codes{};  // plus levels

  SymmetricBlock(const float* x, int levels, int most) {
    refuse_overflow(x);
    std::array<float, 16> fits;
    codes.fill(static_cast<uint8_t>(levels));
    float extreme = 0;
    for (size_t s = 0; s < 16; ++s) {
      fits[s] = search_symmetric(x + 16 * s, 16, levels);
      if (std::fabs(fits[s]) > std::fabs(extreme)) extreme = fits[s];
    }
    if (std::fabs(extreme) < kNothing) return;
    d = checked_half(extreme / static_cast<float>(-most));
    const float unit = f16_to_f32(d);
    for (size_t s = 0; s < 16 && unit != 0; ++s) {
      scales[s] = round_scale(x + 16 * s, fits[s], unit, levels, most);
      const float scale = unit * static_cast<float>(scales[s]);
      for (size_t i = 16 * s; i < 16 * s + 16 && scale != 0; ++i)
        codes[i] = static_cast<uint8_t>(
            levels + static_cast<int>(clamped(nearest(x[i] / scale), static_cast<float>(-levels),
                                              static_cast<float>(levels - 1))));
    }
  }

  static int round_scale(const float* x, float fit, float unit, int levels, int most) {
    const int first = static_cast<int>(
        clamped(nearest(fit / unit), static_cast<float>(-most), static_cast<float>(most - 1)));
    int best = first;
    float best_error = -1;
    for (int candidate = std::max(-most, first - 1); candidate <= std::min(most - 1, first + 1);
         ++candidate) {
      const float scale = unit * static_cast<float>(candidate), factor = scale != 0 ? 1.0f / scale : 0.0f;
      float error = 0;
      for (int i = 0; i < 16; ++i) {
        const float code =
            clamped(nearest(x[i] * factor), static_cast<float>(-levels), static_cast<float>(levels - 1));
        error += (scale * code - x[i]) * (scale * code - x[i]);
      }
      if (best_error < 0 || error < best_error) best_error = error, best = candidate;
    }
    return best;
  }
};

}  // namespace

void to_q2_k(const float* x, std::byte* block) {
  const AffineBlock<16> fit(x, 3, 15, -0.5f, 15, equal_weights);
  for (size_t s = 0; s < 16; ++s) block[s] = static_cast<std::byte>(fit.scales[s] | fit.lows[s] << 4);
  put_quarters(fit.codes, 0, block + 16);
  store(block + 80, fit.d);
  store(block + 82, fit.dmin);
}

void to_q3_k(const float* x, std::byte* block) {
  const SymmetricBlock fit(x, 4, 32);
  for (size_t l = 0; l < 32; ++l) {
    int byte = 0;
    for (size_t u = 0; u < 8; ++u) byte |= (fit.codes[32 * u + l] >> 2) << u;
    block[l] = static_cast<std::byte>(byte);
  }
  put_quarters(fit.codes, 0, block + 32);
  std::array<int, 12> packed{};
  for (size_t s = 0; s < 16; ++s) {
    const int code = fit.scales[s] + 32;
    packed[s % 8] |= (code & 15) << (s < 8 ? 0 : 4);
    packed[8 + s % 4] |= (code >> 4) << (2 * (s / 4));
  }
  for (size_t i = 0; i < 12; ++i) block[96 + i] = static_cast<std::byte>(packed[i]);
  store(block + 108, fit.d);
}

void to_q4_k(const float* x, std::byte* block) {
  const AffineBlock<32> fit(x, 15, 63, -1.0f, 20, magnitude_weights);
  put_head(fit, block);
  put_pairs(fit.codes, block + 16);
}

void to_q5_k(const float* x, std::byte* block) {
  const AffineBlock<32> fit(x, 31, 63, -0.5f, 15, magnitude_weights);
  put_head(fit, block);
  for (size_t l = 0; l < 32; ++l) {
    int byte = 0;
    for (size_t u = 0; u < 8; ++u) byte |= (fit.codes[32 * u + l] >> 4) << u;
    block[16 + l] = static_cast<std::byte>(byte);
  }
  put_pairs(fit.codes, block + 48);
}

void to_q6_k(const float* x, std::byte* block) {
  const SymmetricBlock fit(x, 32, 128);
  for (size_t n = 0; n < 2; ++n) {
    for (size_t l = 0; l < 64; ++l) {  // values 128 n + l and 128 n + 64 + l
      const int low = fit.codes[128 * n + l] & 15, high = fit.codes[128 * n + 64 + l] & 15;
      block[64 * n + l] = static_cast<std::byte>(low | high << 4);
    }
  }
  put_quarters(fit.codes, 4, block + 128);
  for (size_t s = 0; s < 16; ++s) block[192 + s] = static_cast<std::byte>(fit.scales[s]);
  store(block + 208, fit.d);
}

}  // namespace qwb
