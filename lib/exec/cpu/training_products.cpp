#include "lib/exec/cpu/training_products.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/simd.h"
#include "lib/exec/cpu/slab.h"
#include "lib/exec/cpu/thread_scratch.h"
#include "lib/exec/cpu/tile_product.h"
#include "lib/exec/cpu/training_simd.h"

namespace qwb {
namespace {

constexpr int64_t kProductTile = 256;
constexpr int64_t kHeldLogits = 16 << 20;  // 64 MB: a dequantized head is used for many rows
constexpr int64_t kFewestRows = 16;

void linear_back_wide(In dy, const Weight& weight, Out dx, bool add, Threads threads) {
  const bool straight = weight.orientation == Orientation::out_in;
  const int64_t step = slab_rows(weight), in = weight.in, out = weight.out;
  for (int64_t begin = 0; begin < weight.rows(); begin += step) {
    const int64_t count = std::min(step, weight.rows() - begin);
    const float* values = slab(weight, begin, begin + count, threads);
    if (straight) {
      matmul({dy.rows, in, count}, {dy.data + begin, out}, {values, in},
             {dx.data, in, add || begin > 0 ? 1.0f : 0.0f}, threads);
    } else {
      matmul({dy.rows, count, out}, {dy.data, out}, {values, out, true},
             {dx.data + begin, in, add ? 1.0f : 0.0f}, threads);
    }
  }
}

// Both rounded to bf16. Stored [out, in], a slab is a part of the inner dimension: whole tiles.
void linear_back_narrow(In dy, const Weight& weight, Out dx, bool add, Threads threads) {
  const bool straight = weight.orientation == Orientation::out_in;
  const int64_t in = weight.in, out = weight.out, columns = weight.columns();
  const int64_t step =
      straight ? ceil_div(slab_rows(weight), kTileInner) * kTileInner : slab_rows(weight);
  const Panels left = panels_at(narrow_scratch<Narrow::tokens>(panel_values(dy.rows, out)), out);
  pack_panels(dy.data, {dy.rows, out, out, true}, TileForm::left, left, threads);
  for (int64_t begin = 0; begin < weight.rows(); begin += step) {
    const int64_t count = std::min(step, weight.rows() - begin);
    const MatrixLayout layout = straight ? MatrixLayout{columns, count, columns, false}
                                         : MatrixLayout{count, columns, columns, true};
    const Panels right = panels_at(
        narrow_scratch<Narrow::weight>(panel_values(layout.lines, layout.inner)), layout.inner);
    pack_panels(slab(weight, begin, begin + count, threads), layout, TileForm::right, right,
                threads);
    if (straight) {
      tile_products(left.from(0, begin), right, {dy.rows, in, count}, dx.data, in, add || begin > 0,
                    threads);
    } else {
      tile_products(left, right, {dy.rows, count, out}, dx.data + begin, in, add, threads);
    }
  }
}

// The logits of some rows [rows, vocabulary], shaped.
void make_logits(Products products, In x, const Weight& weight, const LogitShape& shape,
                 float* logits, Threads threads) {
  const Prepared head(weight);
  linear({products, {}, threads}, x, {head}, {logits, x.rows, weight.out}, Accumulate::no);
  parallel_ranges(threads, x.rows * weight.out, kElementGrain, [&](int64_t first, int64_t last) {
    if (shape.cap != 0) return simd::soft_cap(logits + first, last - first, shape.scale, shape.cap);
    for (int64_t i = first; shape.scale != 1 && i < last; ++i) logits[i] *= shape.scale;
  });
}

// Returns a row's loss; factor times its gradient by the unshaped logits stands in its place.
double loss_row(float* row, int64_t count, int32_t target, float factor, const LogitShape& shape) {
  if (!simd::all_finite(row, count)) {
    std::fill_n(row, count, std::numeric_limits<float>::quiet_NaN());
    return std::numeric_limits<double>::quiet_NaN();
  }
  float maximum = -std::numeric_limits<float>::infinity();
  double sum = 0;
  simd::accumulate_softmax(row, count, maximum, sum);
  const double loss =
      static_cast<double>(maximum) + std::log(sum) - static_cast<double>(row[target]);
  const float each = factor * shape.scale, chosen = row[target];
  const auto slope = [&](float value) {
    const float part = shape.cap == 0 ? 0 : value / shape.cap;
    return 1 - part * part;
  };
  // The maximum goes first: with the whole logarithm of the sum an f32 would lose its last bits.
  const auto weight = static_cast<float>(static_cast<double>(each) / sum);
  if (shape.cap == 0) {
    simd::exponentials(row, count, 1, maximum);
    for (int64_t i = 0; i < count; ++i) row[i] *= weight;
  } else {
    for (int64_t i = 0; i < count; ++i) {
      const float by_value = slope(row[i]);
      row[i] = std::exp(row[i] - maximum) * weight * by_value;
    }
  }
  row[target] -= each * slope(chosen);
  return loss;
}

}  // namespace

void tiled_product(const GemmShape& shape, const Factor& a, const Factor& b, const Sum& c,
                   float alpha, Threads threads) {
  const int64_t rows = ceil_div(shape.rows, kProductTile);
  const int64_t columns = ceil_div(shape.columns, kProductTile);
  parallel_for(threads, rows * columns, [&](int64_t tile) {
    const int64_t i = tile / columns * kProductTile, j = tile % columns * kProductTile;
    sgemm({std::min(kProductTile, shape.rows - i), std::min(kProductTile, shape.columns - j),
           shape.inner},
          {a.data + (a.transposed ? i : i * a.stride), a.stride, a.transposed},
          {b.data + (b.transposed ? j * b.stride : j), b.stride, b.transposed},
          {c.data + i * c.stride + j, c.stride, c.keep}, alpha);
  });
}

void linear_back(Products products, In dy, const Weight& weight, Out dx, bool add,
                 Threads threads) {
  if (products == Products::bf16) return linear_back_narrow(dy, weight, dx, add, threads);
  linear_back_wide(dy, weight, dx, add, threads);
}

void losses_back(Products products, In x, const Weight& weight, const LossTask& task, Out dx,
                 Threads threads) {
  if (weight.orientation != Orientation::out_in)
    throw Error(ErrorKind::unsupported, "an output embedding stored [in, out]");
  const int64_t vocabulary = weight.out;
  const int64_t step = std::min(x.rows, std::max(kFewestRows, kHeldLogits / vocabulary));
  const FloatBuffer held(step * vocabulary);
  float* logits = held.data();
  for (int64_t begin = 0; begin < x.rows; begin += step) {
    const int64_t rows = std::min(step, x.rows - begin);
    make_logits(products, x.row_range(begin, rows), weight, task.shape, logits, threads);
    parallel_for(threads, rows, [&](int64_t r) {
      const auto i = static_cast<size_t>(begin + r);
      task.losses[i] = loss_row(logits + r * vocabulary, vocabulary, task.targets[i],
                                task.factors[i], task.shape);
    });
    linear_back(products, {logits, rows, vocabulary}, weight, dx.row_range(begin, rows), false,
                threads);
  }
}

}  // namespace qwb
