#include "lib/exec/cpu/matmul.h"

#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/one_thread.h"
#include "lib/exec/cpu/tile_product.h"

namespace qwb {
namespace {

// 256 x 256 reaches the library's full rate (measured: 72-90 GFLOP/s a core on Zen 3 for k from 256
// to 4096) and still gives two threads something to share in the smallest models.
constexpr int64_t kTokenTile = 256;
constexpr int64_t kChannelTile = 256;

// Small tiles leave less of the mirrored half to compute, large ones run faster.
int64_t moment_tile(int64_t n) {
  return n < 1024 ? 192 : 384;
}

}  // namespace

void sgemm(const GemmShape& shape, const Factor& a, const Factor& b, const Sum& c, float alpha) {
  if (shape.rows == 0 || shape.columns == 0 || (shape.inner == 0 && c.keep == 1)) return;
  const OneThread guard;
  const dnnl_status_t status =
      dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', shape.rows, shape.columns,
                 shape.inner, alpha, a.data, a.stride, b.data, b.stride, c.keep, c.data, c.stride);
  if (status != dnnl_success) {
    throw Error(ErrorKind::failed, "oneDNN refused a matrix product (status " +
                                       std::to_string(static_cast<int>(status)) + ")");
  }
}

void matmul(const GemmShape& shape, const Factor& a, const Factor& b, const Sum& c,
            Threads threads) {
  const int64_t rows = ceil_div(shape.rows, kTokenTile);
  const int64_t columns = ceil_div(shape.columns, kChannelTile);
  parallel_for(threads, rows * columns, [&](int64_t tile) {
    const int64_t i = tile / columns * kTokenTile;
    const int64_t j = tile % columns * kChannelTile;
    sgemm({std::min(kTokenTile, shape.rows - i), std::min(kChannelTile, shape.columns - j),
           shape.inner},
          {a.data + i * a.stride, a.stride},
          {b.data + (b.transposed ? j * b.stride : j), b.stride, b.transposed},
          {c.data + i * c.stride + j, c.stride, c.keep});
  });
}

namespace {

// The tiles of a symmetric matrix that hold its upper triangle.
std::vector<std::pair<int64_t, int64_t>> upper_tiles(int64_t n) {
  std::vector<std::pair<int64_t, int64_t>> upper;
  const int64_t tile = moment_tile(n);
  for (int64_t i = 0; i < n; i += tile) {
    for (int64_t j = i; j < n; j += tile) upper.emplace_back(i, j);
  }
  return upper;
}

}  // namespace

Operand::Operand(const float* values, int64_t rows, int64_t columns, Products products,
                 Threads threads)
    : Operand(products, Side::both, threads) {
  set(values, rows, columns);
}

void Operand::set(const float* values, int64_t rows, int64_t columns) {
  columns_ = columns;
  wide_ = values;
  if (products_ == Products::f32) return;
  const int64_t bytes = 2 * panel_values(columns, rows);
  const auto memory = [&](AlignedBuffer& buffer) {
    if (buffer.size() < bytes) {
      buffer = {};
      buffer = AlignedBuffer(bytes);
    }
    return panels_at(reinterpret_cast<uint16_t*>(buffer.data()), rows);
  };
  const MatrixLayout layout{columns, rows, columns, false};
  left_ = memory(left_memory_);
  if (side_ == Side::left) {
    pack_panels(values, layout, TileForm::left, left_, threads_);
    return;
  }
  right_ = memory(right_memory_);
  pack_panels(values, layout, TileForm::right, right_, threads_);
  turn_panels(right_, columns, left_, threads_);
}

namespace {

// c += a[:, i...]^T b[:, j...]; upper: what is below its diagonal may be
// left as it is.
void product_of_columns(const Operand& a, int64_t i, const Operand& b, int64_t j,
                        const GemmShape& shape, const Sum& c, bool upper = false) {
  if (a.left() == nullptr) {
    sgemm(shape, {a.wide() + i, a.columns(), true}, {b.wide() + j, b.columns()}, c);
    return;
  }
  tile_product(a.left()->from(i, 0), b.right()->from(j, 0),
               {shape.rows, shape.columns, shape.inner}, c.data, c.stride, true, upper);
}

}  // namespace

void add_products(const Operand& a, const Operand& b, int64_t rows, float* c) {
  const int64_t m = a.columns(), n = b.columns(), high = moment_tile(m), wide = moment_tile(n);
  const int64_t tiles = ceil_div(n, wide);
  parallel_for(b.threads(), ceil_div(m, high) * tiles, [&](int64_t index) {
    const int64_t i = index / tiles * high, j = index % tiles * wide;
    product_of_columns(a, i, b, j, {std::min(high, m - i), std::min(wide, n - j), rows},
                       {c + i * n + j, n, 1});
  });
}

void add_moments(const Operand& x, int64_t rows, float* h) {
  const int64_t n = x.columns();
  const auto upper = upper_tiles(n);
  parallel_for(x.threads(), static_cast<int64_t>(upper.size()), [&](int64_t index) {
    const auto [i, j] = upper[index];
    const int64_t height = std::min(moment_tile(n), n - i), width = std::min(moment_tile(n), n - j);
    product_of_columns(x, i, x, j, {height, width, rows}, {h + i * n + j, n, 1}, i == j);
  });
}

void mirror_moments(float* h, int64_t n, Threads threads) {
  constexpr int64_t kSquare = 32;  // both it and its mirror stay in the first cache
  const int64_t squares = ceil_div(n, kSquare);
  parallel_for(threads, squares, [&](int64_t index) {
    const int64_t j = index * kSquare, right = std::min(n, j + kSquare);
    for (int64_t i = 0; i <= j; i += kSquare) {
      for (int64_t r = i; r < std::min(n, i + kSquare); ++r) {
        for (int64_t c = i == j ? r + 1 : j; c < right; ++c) h[c * n + r] = h[r * n + c];
      }
    }
  });
}

}  // namespace qwb
