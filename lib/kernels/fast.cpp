// The fast CPU backend: oneDNN for matrix products on fixed tiles, Highway for the rest, OpenMP
// over rows, tiles and heads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/codec/dense.h"
#include "lib/codec/int8_rows.h"
#include "lib/kernels/attention.h"
#include "lib/kernels/backend.h"
#include "lib/kernels/dequantize.h"
#include "lib/kernels/int8_product.h"
#include "lib/kernels/isa.h"
#include "lib/kernels/matmul.h"
#include "lib/kernels/reference.h"
#include "lib/kernels/simd.h"
#include "lib/kernels/thread_scratch.h"
#include "lib/kernels/tile_product.h"

namespace qwb {
namespace {

constexpr int64_t kSlabFloats = 4 << 20;   // dequantized weights held at a time: 16 MB
constexpr int64_t kRowGrain = 32;          // rows of a weight one thread takes at a time
constexpr int64_t kVocabularySlab = 4096;  // logits of a row held at a time by losses()

float* slab_scratch(int64_t count) {
  static thread_local FloatBuffer buffer;
  if (buffer.size() < count) buffer = FloatBuffer(count);
  return buffer.data();
}

// Stored rows [begin, end) as f32: in place when they are f32 already, else unpacked into the slab.
const float* slab(const Weight& weight, int64_t begin, int64_t end, Threads threads) {
  const int64_t columns = weight.columns();
  if (const auto* dense = weight.as<DenseWeight>()) {
    const std::byte* data = dense->values.bytes.data();
    if (dense->values.dtype == DType::f32 &&
        reinterpret_cast<uintptr_t>(data) % sizeof(float) == 0) {
      return reinterpret_cast<const float*>(data) + begin * columns;
    }
  }
  float* target = slab_scratch((end - begin) * columns);
  parallel_ranges(threads, end - begin, std::max<int64_t>(1, (int64_t{1} << 16) / columns),
                  [&](int64_t first, int64_t last) {
                    dequantize_rows(weight, begin + first, begin + last, target + first * columns);
                  });
  return target;
}

int64_t slab_rows(const Weight& weight) {
  return std::max<int64_t>(1, kSlabFloats / weight.columns());
}

void fill_bias(const float* bias, int64_t tokens, int64_t out, float* y, bool add,
               Threads threads) {
  parallel_ranges(threads, tokens, 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (add) {
        simd::add(y + t * out, bias, out);
      } else {
        std::copy_n(bias, out, y + t * out);
      }
    }
  });
}

// y += x W^T for many tokens.
void linear_many(const float* x, int64_t tokens, const Weight& weight, float* y, bool add,
                 Threads threads) {
  const bool straight = weight.orientation == Orientation::out_in;
  const int64_t rows = weight.rows();
  const int64_t step = slab_rows(weight);
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    const float* values = slab(weight, begin, begin + count, threads);
    if (straight) {
      matmul(true, tokens, count, weight.in, x, weight.in, values, weight.in, y + begin, weight.out,
             add, threads);
    } else {
      matmul(false, tokens, weight.out, count, x + begin, weight.in, values, weight.out, y,
             weight.out, add || begin > 0, threads);
    }
  }
}

// As the right operand of a product, stored rows are lines or steps of the inner dimension.
MatrixLayout slab_layout(const Weight& weight, int64_t rows) {
  const int64_t columns = weight.columns();
  return weight.orientation == Orientation::out_in ? MatrixLayout{rows, columns, columns, true}
                                                   : MatrixLayout{columns, rows, columns, false};
}

// Stored rows [begin, end) as the right operand, rounded to bf16.
void pack_slab(const Weight& weight, int64_t begin, int64_t end, const Panels& panels,
               Threads threads) {
  const int64_t columns = weight.columns();
  const MatrixLayout layout = slab_layout(weight, end - begin);
  if (const auto* dense = weight.as<DenseWeight>()) {
    const std::byte* data = dense->values.bytes.data();
    if (dense->values.dtype == DType::bf16 &&
        reinterpret_cast<uintptr_t>(data) % sizeof(uint16_t) == 0) {
      pack_panels(reinterpret_cast<const uint16_t*>(data) + begin * columns, layout,
                  TileForm::right, panels, threads);
      return;
    }
  }
  pack_panels(slab(weight, begin, end, threads), layout, TileForm::right, panels, threads);
}

Panels narrow_slab(const Weight& weight, int64_t begin, int64_t end, Threads threads) {
  const MatrixLayout layout = slab_layout(weight, end - begin);
  const Panels panels = panels_at(
      narrow_scratch<Narrow::weight>(panel_values(layout.lines, layout.inner)), layout.inner);
  pack_slab(weight, begin, end, panels, threads);
  return panels;
}

// Activations as the left operand, rounded to bf16. Until the thread's next call.
Panels narrow_tokens(const float* x, int64_t tokens, int64_t in, Threads threads) {
  const Panels left = panels_at(narrow_scratch<Narrow::tokens>(panel_values(tokens, in)), in);
  pack_panels(x, {tokens, in, in, true}, TileForm::left, left, threads);
  return left;
}

// y += x W^T for many tokens, both rounded to bf16.
void linear_narrow(const Panels& left, int64_t tokens, const Weight& weight, float* y, bool add,
                   Threads threads) {
  if (weight.packed != nullptr) {
    auto* values = reinterpret_cast<uint16_t*>(const_cast<std::byte*>(weight.packed));
    return tile_products(left, panels_at(values, weight.in), {tokens, weight.out, weight.in}, y,
                         weight.out, add, threads);
  }
  const bool straight = weight.orientation == Orientation::out_in;
  const int64_t rows = weight.rows();
  // Stored [in, out], a slab is a part of the inner dimension: whole tiles.
  const int64_t step =
      straight ? slab_rows(weight) : ceil_div(slab_rows(weight), kTileInner) * kTileInner;
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    const Panels right = narrow_slab(weight, begin, begin + count, threads);
    if (straight) {
      tile_products(left, right, {tokens, count, weight.in}, y + begin, weight.out, add, threads);
    } else {
      tile_products(left.from(0, begin), right, {tokens, weight.out, count}, y, weight.out,
                    add || begin > 0, threads);
    }
  }
}

// The same for one or a few tokens: every weight is read once.
void linear_few(const float* x, int64_t tokens, const Weight& weight, float* y, bool add,
                Threads threads) {
  if (weight.orientation == Orientation::out_in) {
    parallel_ranges(threads, weight.out, kRowGrain, [&](int64_t begin, int64_t end) {
      float* values = scratch(weight.in);
      float sums[kFewTokens];
      for (int64_t row = begin; row < end; ++row) {
        dot_row(weight, row, x, tokens, weight.in, sums, 1, values);
        for (int64_t t = 0; t < tokens; ++t)
          y[t * weight.out + row] = add ? y[t * weight.out + row] + sums[t] : sums[t];
      }
    });
    return;
  }
  parallel_ranges(threads, weight.out, 8 * kRowGrain, [&](int64_t begin, int64_t end) {
    float* values = scratch(end - begin);
    for (int64_t t = 0; t < tokens && !add; ++t)
      std::fill(y + t * weight.out + begin, y + t * weight.out + end, 0.0f);
    for (int64_t row = 0; row < weight.in; ++row) {
      dequantize_part(weight, row, begin, end - begin, values);
      for (int64_t t = 0; t < tokens; ++t)
        simd::axpy(x[t * weight.in + row], values, y + t * weight.out + begin, end - begin);
    }
  });
}

class Fast final : public Backend {
 public:
  // int8_threshold: products of int8 rows take activations of 8 bits (int8_product.h).
  Fast(Products products, Threads threads, std::optional<float> int8_threshold = {})
      : Backend(threads), products_(products), int8_threshold_(int8_threshold) {
    select_isa();
  }
  std::string name() const override {
    return "cpu-" + isa_name() + (products_ == Products::bf16 ? "-bf16" : "") +
           (int8_threshold_ ? "-int8" : "");
  }
  Products products() const override { return products_; }

  void linear(const float* x, int64_t tokens, const Weight& weight, const float* bias, float* y,
              bool add) const override {
    if (in_8_bits(weight)) {
      const Int8Activations codes(x, tokens, weight.in, *int8_threshold_, threads());
      return int8_product(codes, weight, 0, weight.out, bias, y, weight.out, add, threads());
    }
    if (bias != nullptr) fill_bias(bias, tokens, weight.out, y, add, threads());
    add = add || bias != nullptr;
    if (tokens <= kFewTokens) {
      linear_few(x, tokens, weight, y, add, threads());
    } else if (products_ == Products::bf16) {
      linear_narrow(narrow_tokens(x, tokens, weight.in, threads()), tokens, weight, y, add,
                    threads());
    } else {
      linear_many(x, tokens, weight, y, add, threads());
    }
  }

  AlignedBuffer pack(Weight& weight) const override {
    if (products_ != Products::bf16 || weight.out * weight.in > kMostPacked) return {};
    AlignedBuffer memory(2 * panel_values(weight.out, weight.in));
    pack_slab(weight, 0, weight.rows(),
              panels_at(reinterpret_cast<uint16_t*>(memory.data()), weight.in), threads());
    weight.packed = memory.data();
    return memory;
  }

  void linears(const float* x, int64_t tokens, std::span<const Output> outputs) const override {
    if (products_ != Products::bf16 || tokens <= kFewTokens || outputs.empty())
      return Backend::linears(x, tokens, outputs);
    const Panels left = narrow_tokens(x, tokens, outputs.front().weight->in, threads());
    for (const Output& o : outputs) {
      if (o.bias != nullptr) fill_bias(o.bias, tokens, o.weight->out, o.y, false, threads());
      linear_narrow(left, tokens, *o.weight, o.y, o.bias != nullptr, threads());
    }
  }

  void gather_rows(const Weight& weight, std::span<const int32_t> ids, float* out) const override {
    const int64_t columns = weight.columns();
    parallel_ranges(threads(), static_cast<int64_t>(ids.size()), 64,
                    [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i)
                        dequantize_rows(weight, ids[static_cast<size_t>(i)],
                                        ids[static_cast<size_t>(i)] + 1, out + i * columns);
                    });
  }

  void rms_norm(const float* x, int64_t rows, int64_t n, const float* gain, double eps,
                float* y) const override {
    by_rows(rows, n, [&](int64_t r) {
      simd::rms_norm(x + r * n, n, gain, static_cast<float>(eps), y + r * n);
    });
  }

  void layer_norm(const float* x, int64_t rows, int64_t n, const float* gain, const float* bias,
                  double eps, float* y) const override {
    by_rows(rows, n, [&](int64_t r) {
      simd::layer_norm(x + r * n, n, gain, bias, static_cast<float>(eps), y + r * n);
    });
  }

  void rotate(float* x, int64_t tokens, int64_t heads, int64_t head_dim, int64_t stride,
              const float* cosine, const float* sine) const override {
    const int64_t half = head_dim / 2;
    by_rows(tokens, heads * head_dim, [&](int64_t t) {
      for (int64_t h = 0; h < heads; ++h)
        simd::rotate(x + t * stride + h * head_dim, half, cosine + t * half, sine + t * half);
    });
  }

  void attention(const float* queries, const float* keys, const float* values,
                 const AttentionShape& s, float* out) const override {
    attend(queries, keys, values, s, products_, out, threads());
  }

  void activate(Activation activation, float* gate, const float* up, int64_t count) const override {
    parallel_ranges(threads(), count, kElementGrain, [&](int64_t begin, int64_t end) {
      simd::activate(activation, gate + begin, up != nullptr ? up + begin : nullptr, end - begin);
    });
  }

  void add(float* x, const float* y, int64_t count) const override {
    parallel_ranges(threads(), count, kElementGrain, [&](int64_t begin, int64_t end) {
      simd::add(x + begin, y + begin, end - begin);
    });
  }

  void soft_cap(float* x, int64_t count, float cap) const override {
    parallel_ranges(threads(), count, kElementGrain, [&](int64_t begin, int64_t end) {
      simd::soft_cap(x + begin, end - begin, 1, cap);
    });
  }

  void losses(const float* x, int64_t rows, const Weight& weight, std::span<const int32_t> targets,
              float cap, double* losses) const override {
    if (weight.orientation != Orientation::out_in)
      throw Error(ErrorKind::unsupported, "an output embedding stored [in, out]");
    std::vector<float> maximum(static_cast<size_t>(rows), -std::numeric_limits<float>::infinity());
    std::vector<float> chosen(static_cast<size_t>(rows));
    std::vector<double> sum(static_cast<size_t>(rows));
    const int64_t step = std::min(slab_rows(weight), kVocabularySlab);
    FloatBuffer logits(rows * std::min(step, weight.out));
    std::optional<Int8Activations> codes;
    if (in_8_bits(weight)) codes.emplace(x, rows, weight.in, *int8_threshold_, threads());
    for (int64_t begin = 0; begin < weight.out; begin += step) {
      const int64_t count = std::min(step, weight.out - begin);
      if (codes) {
        int8_product(*codes, weight, begin, begin + count, nullptr, logits.data(), count, false,
                     threads());
      } else {
        matmul(true, rows, count, weight.in, x, weight.in,
               slab(weight, begin, begin + count, threads()), weight.in, logits.data(), count,
               false, threads());
      }
      if (cap != 0) soft_cap(logits.data(), rows * count, cap);
      parallel_for(threads(), ceil_div(rows, 8), [&](int64_t chunk) {
        for (int64_t r = chunk * 8; r < std::min(rows, chunk * 8 + 8); ++r) {
          const auto i = static_cast<size_t>(r);
          // Vector maxima may drop a NaN: look for it first.
          if (!simd::all_finite(logits.data() + r * count, count))
            sum[i] = std::numeric_limits<double>::quiet_NaN();
          simd::accumulate_softmax(logits.data() + r * count, count, maximum[i], sum[i]);
          const int64_t target = targets[i] - begin;
          if (target >= 0 && target < count) chosen[i] = logits[r * count + target];
        }
      });
    }
    for (size_t i = 0; i < static_cast<size_t>(rows); ++i) {
      losses[i] =
          static_cast<double>(maximum[i]) + std::log(sum[i]) - static_cast<double>(chosen[i]);
    }
  }

  bool all_finite(const float* x, int64_t count) const override {
    return simd::all_finite(x, count);
  }

 private:
  template <class Body>
  void by_rows(int64_t rows, int64_t n, const Body& body) const {
    parallel_ranges(threads(), rows, std::max<int64_t>(1, kElementGrain / n),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t r = begin; r < end; ++r) body(r);
                    });
  }

  bool in_8_bits(const Weight& weight) const {
    return int8_threshold_ && weight.as<Int8Rows>() != nullptr;
  }

  Products products_;
  std::optional<float> int8_threshold_;
};

}  // namespace

std::unique_ptr<Backend> make_backend(BackendKind kind, Threads threads) {
  if (kind == BackendKind::reference) return make_reference_backend();
  return std::make_unique<Fast>(kind == BackendKind::bf16 ? Products::bf16 : Products::f32,
                                threads);
}

std::unique_ptr<Backend> make_int8_backend(float threshold, Threads threads) {
  if (!(threshold >= 0) || !std::isfinite(threshold))
    throw Error(ErrorKind::usage, "the outlier threshold must be 0 (off) or a positive number");
  return std::make_unique<Fast>(Products::f32, threads, threshold);
}

BackendKind calibration_backend() {
  select_isa();
  return !bf16_units().empty() ? BackendKind::bf16 : BackendKind::fast;
}

}  // namespace qwb
