#include "lib/exec/cpu/int8_product.h"

#include <algorithm>
#include <cmath>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/codec/int8_rows.h"
#include "lib/exec/cpu/int8_simd.h"
#include "lib/exec/cpu/isa.h"

namespace qwb {
namespace {

using simd::kInt8Padding;
using simd::kInt8Panel;

constexpr int64_t kMostColumns = (int64_t{1} << 31) / (127 * 128) - 1;
constexpr int64_t kCodedTokens = 16;  // tokens rounded by one thread at a time
// Up to here the weights' bytes are multiplied where they lie; beyond, widening four rows at a time
// pays.
constexpr int64_t kFewCodedTokens = 6;
constexpr int64_t kItemTokens =
    384;  // tokens of an item: the outlier weights are gathered once for them
constexpr int64_t kSumTokens =
    96;  // a multiple of 3; their codes of kSumChannels channels stay in the L2 cache
constexpr int64_t kSumChannels =
    2048;  // channels of four weight rows that fit the L1 cache, 16 bits each

constexpr float kOver127 = 1.0f / 127.0f;
constexpr float kOver127Squared = 1.0f / (127.0f * 127.0f);

template <typename T>
T* coding_scratch(int64_t count) {
  static thread_local AlignedBuffer buffer;
  const auto bytes = count * static_cast<int64_t>(sizeof(T));
  if (buffer.size() < bytes) buffer = AlignedBuffer(bytes);
  return reinterpret_cast<T*>(buffer.data());
}

// 127 / absmax in two roundings, as torch divides a number by a tensor; 0 where the row has no
// codes.
float code_factor(float absmax) {
  return absmax > 0 && std::isfinite(absmax) ? (1.0f / absmax) * 127.0f : 0.0f;
}

// The f16 values of one token, padded with zeros.
float* f16_row(const float* x, int64_t in, int64_t padded) {
  auto* row = coding_scratch<float>(padded);
  std::copy_n(x, in, row);
  std::fill(row + in, row + padded, 0.0f);
  simd::round_to_f16(row, padded);
  return row;
}

}  // namespace

Int8Activations::Int8Activations(const float* x, int64_t tokens, int64_t in, float threshold,
                                 Threads threads)
    : x_(x),
      tokens_(tokens),
      in_(in),
      padded_(ceil_div(in, kInt8Padding) * kInt8Padding),
      codes_(
          checked_mul(tokens, padded_ * static_cast<int64_t>(sizeof(int16_t)), "int8 activations")),
      absmax_(tokens) {
  if (!(threshold >= 0) || !std::isfinite(threshold))
    throw Error(ErrorKind::usage, "the outlier threshold must be 0 (off) or a positive number");
  if (in > kMostColumns) {
    throw Error(ErrorKind::unsupported,
                "int8 products over " + std::to_string(in) + " channels could overflow 32 bits");
  }
  select_isa();
  find_outliers(threshold, threads);
  round(threads);
}

void Int8Activations::find_outliers(float threshold, Threads threads) {
  const int64_t ranges = ceil_div(tokens_, kCodedTokens);
  std::vector<int32_t> marks(threshold > 0 ? static_cast<size_t>(ranges * padded_) : 0);
  parallel_ranges(threads, tokens_, kCodedTokens, [&](int64_t begin, int64_t end) {
    int32_t* range_marks = threshold > 0 ? marks.data() + begin / kCodedTokens * padded_ : nullptr;
    for (int64_t t = begin; t < end; ++t)
      absmax_[t] =
          simd::int8_absmax(f16_row(x_ + t * in_, in_, padded_), padded_, threshold, range_marks);
  });
  if (threshold <= 0) return;
  for (int64_t range = 1; range < ranges; ++range) {
    for (int64_t i = 0; i < in_; ++i) marks[i] |= marks[range * padded_ + i];
  }
  for (int64_t i = 0; i < in_; ++i) {
    if (tokens_ > 0 && marks[i] != 0) outliers_.push_back(static_cast<int32_t>(i));
  }
}

void Int8Activations::round(Threads threads) {
  const auto count = static_cast<int64_t>(outliers_.size());
  outlier_values_ = FloatBuffer(checked_mul(tokens_, count, "int8 activations"));
  parallel_ranges(threads, tokens_, kCodedTokens, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      auto* row_codes = reinterpret_cast<int16_t*>(codes_.data()) + t * padded_;
      const float factor = code_factor(absmax_[t]);
      if (factor > 0) {
        simd::int8_codes(f16_row(x_ + t * in_, in_, padded_), padded_, factor, row_codes);
      } else {
        std::fill(row_codes, row_codes + padded_, int16_t{0});
      }
      for (int64_t c = 0; c < count; ++c) {
        const int32_t column = outliers_[c];
        row_codes[column] = 0;
        outlier_values_[t * count + c] = x_[t * in_ + column];
      }
    }
  });
}

namespace {

// Up to kInt8Panel outputs of a weight: what an item works on.
struct Int8Panel {
  const Int8Activations& x;
  const int8_t* codes;  // of the first output
  int64_t count;        // outputs
  float absmax[kInt8Panel];
  float bias[kInt8Panel];
  // Weights of the outlier columns [outliers, kInt8Panel], zeros beyond count; null without
  // outliers.
  const float* outlier_weights;
};

Int8Panel make_int8_panel(const Int8Activations& x, const Weight& weight, int64_t first,
                          int64_t count, const float* bias) {
  const auto& rows = weight.get<Int8Rows>();
  Int8Panel panel{
      x,     reinterpret_cast<const int8_t*>(rows.codes.bytes.data()) + first * weight.in,
      count, {},
      {},    nullptr};
  for (int64_t r = 0; r < count; ++r) {
    panel.absmax[r] = load<float>(rows.absmax.bytes.data() + 4 * (first + r));
    panel.bias[r] = bias != nullptr ? bias[first + r] : 0.0f;
  }
  const auto outliers = static_cast<int64_t>(x.outliers().size());
  if (outliers == 0) return panel;
  static thread_local FloatBuffer buffer;
  if (buffer.size() < outliers * kInt8Panel) buffer = FloatBuffer(outliers * kInt8Panel);
  std::fill_n(buffer.data(), outliers * kInt8Panel, 0.0f);
  for (int64_t r = 0; r < count; ++r) {
    const int8_t* row = panel.codes + r * weight.in;
    const float scale = panel.absmax[r] * kOver127;
    for (int64_t c = 0; c < outliers; ++c)
      buffer[c * kInt8Panel + r] = static_cast<float>(row[x.outliers()[c]]) * scale;
  }
  panel.outlier_weights = buffer.data();
  return panel;
}

// Integer sums [tokens, kInt8Panel] of tokens [first, last), the weights in place.
void sums_in_place(const Int8Panel& panel, int64_t first, int64_t last, int32_t* sums) {
  const int64_t in = panel.x.in();
  for (int64_t r = 0; r < panel.count; r += 4) {
    const int8_t* rows[4];
    for (int64_t k = 0; k < 4; ++k) rows[k] = panel.codes + std::min(r + k, panel.count - 1) * in;
    for (int64_t t = first; t < last; ++t)
      simd::int8_row_in_place(panel.x.codes(t), rows, in, sums + (t - first) * kInt8Panel + r);
  }
}

// The same for a tile of many tokens.
void sums_of_tile(const Int8Panel& panel, int64_t first, int64_t last, int32_t* sums) {
  const Int8Activations& x = panel.x;
  auto* wide = coding_scratch<int16_t>(4 * kSumChannels);
  for (int64_t inner = 0; inner < x.in(); inner += kSumChannels) {
    const int64_t count = std::min(kSumChannels, x.in() - inner);
    const int64_t padded = ceil_div(count, kInt8Padding) * kInt8Padding;
    for (int64_t r = 0; r < panel.count; r += 4) {
      for (int64_t k = 0; k < 4; ++k) {
        const int8_t* row = panel.codes + std::min(r + k, panel.count - 1) * x.in() + inner;
        simd::widen_int8(row, count, padded, wide + k * padded);
      }
      int32_t* target = sums + r;
      int64_t t = first;
      for (; t + 3 <= last; t += 3, target += 3 * kInt8Panel)
        simd::int8_tile(x.codes(t) + inner, x.padded(), wide, padded, padded, target, kInt8Panel);
      for (; t < last; ++t, target += kInt8Panel)
        simd::int8_row(x.codes(t) + inner, wide, padded, padded, target);
    }
  }
}

// y of one token from its integer sums.
void finish_int8_row(const Int8Panel& panel, int64_t token, const int32_t* sums, float* y,
                     bool add) {
  const float absmax = panel.x.absmax(token);
  float values[kInt8Panel] = {};
  for (int64_t r = 0; r < panel.count; ++r) {
    values[r] =
        static_cast<float>(sums[r]) * (absmax * panel.absmax[r]) * kOver127Squared + panel.bias[r];
  }
  if (panel.outlier_weights != nullptr) {
    float outliers[kInt8Panel] = {};
    simd::int8_outliers(panel.x.outlier_values(token),
                        static_cast<int64_t>(panel.x.outliers().size()), panel.outlier_weights,
                        outliers);
    for (int64_t r = 0; r < panel.count; ++r) values[r] += outliers[r];
  }
  for (int64_t r = 0; r < panel.count; ++r) y[r] = add ? y[r] + values[r] : values[r];
}

}  // namespace

void int8_product(const Int8Activations& x, const Int8Outputs& outputs, float* y, int64_t stride_y,
                  bool add, Threads threads) {
  const int64_t begin = outputs.begin, end = outputs.end;
  const int64_t panels = ceil_div(end - begin, kInt8Panel),
                spans = ceil_div(x.tokens(), kItemTokens);
  const bool few = x.tokens() <= kFewCodedTokens;
  parallel_for(threads, panels * spans, [&](int64_t item) {
    const int64_t first_row = begin + item % panels * kInt8Panel;
    const int64_t rows = std::min(kInt8Panel, end - first_row);
    const Int8Panel panel = make_int8_panel(x, outputs.weight, first_row, rows, outputs.bias);
    const int64_t first = item / panels * kItemTokens,
                  last = std::min(x.tokens(), first + kItemTokens);
    alignas(64) int32_t sums[kSumTokens * kInt8Panel];
    for (int64_t t = first; t < last; t += kSumTokens) {
      const int64_t stop = std::min(last, t + kSumTokens);
      std::fill_n(sums, (stop - t) * kInt8Panel, 0);
      few ? sums_in_place(panel, t, stop, sums) : sums_of_tile(panel, t, stop, sums);
      for (int64_t i = t; i < stop; ++i) {
        finish_int8_row(panel, i, sums + (i - t) * kInt8Panel,
                        y + i * stride_y + (first_row - begin), add);
      }
    }
  });
}

}  // namespace qwb
