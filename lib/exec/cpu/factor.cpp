#include "lib/exec/cpu/factor.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/operands.h"

namespace qwb {
namespace {

// t [n, n] (leading dimension kFactorBlock), symmetric, upper triangle given: becomes R with t = R
// R^T.
bool factorize_block(double* t, int64_t n, double minimum_pivot) {
  double column[kFactorBlock];
  for (int64_t j = n - 1; j >= 0; --j) {
    const double pivot = t[j * kFactorBlock + j];
    if (!(pivot > minimum_pivot) || !std::isfinite(pivot)) return false;
    const double root = std::sqrt(pivot);
    t[j * kFactorBlock + j] = root;
    for (int64_t i = 0; i < j; ++i) {
      column[i] = t[i * kFactorBlock + j] / root;
      t[i * kFactorBlock + j] = column[i];
    }
    for (int64_t i = 0; i < j; ++i) {
      const double factor = column[i];
      for (int64_t k = i; k < j; ++k) t[i * kFactorBlock + k] -= factor * column[k];
    }
  }
  return true;
}

// u = r^-1 for an upper triangular r [n, n]; u [kFactorBlock, kFactorBlock] is zero elsewhere.
void invert_block(const double* r, int64_t n, double* u) {
  std::fill(u, u + kFactorBlock * kFactorBlock, 0.0);
  for (int64_t i = n - 1; i >= 0; --i) {
    double* row = u + i * kFactorBlock;
    for (int64_t k = i + 1; k < n; ++k) {
      const double factor = r[i * kFactorBlock + k];
      for (int64_t j = k; j < n; ++j) row[j] -= factor * u[k * kFactorBlock + j];
    }
    const double pivot = r[i * kFactorBlock + i];
    for (int64_t j = i + 1; j < n; ++j) row[j] /= pivot;
    row[i] = 1 / pivot;
  }
}

// Factorizes and inverts diagonal block b of the matrix.
bool diagonal_block(const HostFactor& factor, int64_t b, double minimum_pivot) {
  const int64_t n = factor.size, begin = b * kFactorBlock,
                length = std::min(kFactorBlock, n - begin);
  std::vector<double> t(static_cast<size_t>(kFactorBlock * kFactorBlock)), u(t.size());
  float* a = factor.upper + begin * n + begin;
  for (int64_t i = 0; i < length; ++i) {
    for (int64_t j = i; j < length; ++j) t[i * kFactorBlock + j] = a[i * n + j];
  }
  if (!factorize_block(t.data(), length, minimum_pivot)) return false;
  invert_block(t.data(), length, u.data());
  for (int64_t i = 0; i < length; ++i) {
    for (int64_t j = 0; j < length; ++j)
      a[i * n + j] = j < i ? 0.0f : static_cast<float>(t[i * kFactorBlock + j]);
  }
  float* inverse = factor.inverses + b * kFactorBlock * kFactorBlock;
  for (int64_t k = 0; k < kFactorBlock * kFactorBlock; ++k) inverse[k] = static_cast<float>(u[k]);
  return true;
}

[[noreturn]] void bad_moments(const std::string& module) {
  throw Error(ErrorKind::failed, "the calibration moments hold NaN or Inf", module,
              "an earlier block may have diverged; try other calibration text or leave this module "
              "unquantized");
}

constexpr int64_t kFilledRows = 64;  // rows of H per parallel item

// factor.upper = H in the new order plus `added` on the diagonal; dead diagonals become `mean`.
void fill_damped(const float* hessian, const Damping& damping, const HostFactor& factor,
                 const Context& context) {
  const int64_t n = factor.size;
  const std::span<const int64_t> order = damping.order;
  parallel_ranges(context, n, kFilledRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* source = hessian + order[i] * n;
      float* row = factor.upper + i * n;
      bool finite = true;
      for (int64_t j = 0; j < n; ++j) {
        row[j] = source[order[j]];
        finite = finite && std::isfinite(row[j]);
      }
      if (!finite) bad_moments(damping.module);
      if (row[i] == 0) {
        std::fill(row, row + n, 0.0f);
        row[i] = static_cast<float>(damping.mean);
      }
      row[i] = static_cast<float>(row[i] + damping.added);
    }
  });
}

void keep_diagonal(const HostFactor& factor) {
  const int64_t n = factor.size;
  std::fill_n(factor.diagonal, factor.blocks() * kFactorBlock * kFactorBlock, 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t begin = i / kFactorBlock * kFactorBlock,
                  length = std::min(kFactorBlock, n - begin);
    std::copy_n(factor.upper + i * n + begin, length, factor.diagonal + i * kFactorBlock);
  }
}

}  // namespace

HostFactor::HostFactor(const UpperFactor& factor)
    : size(factor.size()),
      upper(dense(factor.upper)),
      inverses(dense(factor.inverses)),
      diagonal(dense(factor.diagonal)) {}

bool factorize_damped(const float* hessian, const Damping& damping, const HostFactor& factor,
                      const Context& context) {
  fill_damped(hessian, damping, factor, context);
  keep_diagonal(factor);
  return factorize_upper(factor, damping.minimum_pivot, context);
}

void solve_factored(const HostFactor& factor, float* x, int64_t columns) {
  const int64_t n = factor.size;
  const float* r = factor.upper;
  FloatBuffer right(kFactorBlock * columns);
  // R y = x from the last block to the first, then R^T z = y from the first to the last.
  for (int64_t b = factor.blocks() - 1; b >= 0; --b) {
    const int64_t begin = b * kFactorBlock, length = std::min(kFactorBlock, n - begin),
                  end = begin + length;
    float* block = x + begin * columns;
    sgemm({length, columns, n - end}, {r + begin * n + end, n}, {x + end * columns, columns},
          {block, columns, 1}, -1);
    std::copy_n(block, length * columns, right.data());
    sgemm({length, columns, length}, {factor.inverse(b), kFactorBlock}, {right.data(), columns},
          {block, columns});
  }
  for (int64_t b = 0; b < factor.blocks(); ++b) {
    const int64_t begin = b * kFactorBlock, length = std::min(kFactorBlock, n - begin);
    float* block = x + begin * columns;
    sgemm({length, columns, begin}, {r + begin, n, true}, {x, columns}, {block, columns, 1}, -1);
    std::copy_n(block, length * columns, right.data());
    sgemm({length, columns, length}, {factor.inverse(b), kFactorBlock, true},
          {right.data(), columns}, {block, columns});
  }
}

bool factorize_upper(const HostFactor& factor, double minimum_pivot, const Context& context) {
  const int64_t n = factor.size;
  float* a = factor.upper;
  for (int64_t b = factor.blocks() - 1; b >= 0; --b) {
    if (!diagonal_block(factor, b, minimum_pivot)) return false;
    const int64_t begin = b * kFactorBlock, length = std::min(kFactorBlock, n - begin);
    // The panel above the block, times the block's inverse, transposed.
    parallel_for(context, b, [&](int64_t above) {
      float* panel = a + above * kFactorBlock * n + begin;
      float solved[kFactorBlock * kFactorBlock];
      sgemm({kFactorBlock, length, length}, {panel, n}, {factor.inverse(b), kFactorBlock, true},
            {solved, kFactorBlock});
      for (int64_t i = 0; i < kFactorBlock; ++i)
        std::copy_n(solved + i * kFactorBlock, length, panel + i * n);
    });
    std::vector<std::pair<int64_t, int64_t>> rest;  // tiles of the remaining upper triangle
    for (int64_t i = 0; i < b; ++i) {
      for (int64_t j = i; j < b; ++j) rest.emplace_back(i, j);
    }
    parallel_for(context, static_cast<int64_t>(rest.size()), [&](int64_t k) {
      const auto [i, j] = rest[k];
      sgemm({kFactorBlock, kFactorBlock, length}, {a + i * kFactorBlock * n + begin, n},
            {a + j * kFactorBlock * n + begin, n, true},
            {a + i * kFactorBlock * n + j * kFactorBlock, n, 1}, -1);
    });
  }
  return true;
}

std::vector<double> quadratic_forms(const float* x, int64_t rows, const float* hessian,
                                    int64_t columns) {
  FloatBuffer product(rows * kFactorBlock);
  std::vector<double> sums(static_cast<size_t>(rows));
  for (int64_t begin = 0; begin < columns; begin += kFactorBlock) {
    const int64_t length = std::min(kFactorBlock, columns - begin);
    // x (2 * what is above the diagonal block + the block itself), by symmetry.
    sgemm({rows, length, length}, {x + begin, columns},
          {hessian + begin * columns + begin, columns}, {product.data(), kFactorBlock});
    if (begin > 0) {
      sgemm({rows, length, begin}, {x, columns}, {hessian + begin, columns},
            {product.data(), kFactorBlock, 1}, 2);
    }
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < length; ++c)
        sum += static_cast<double>(product[r * kFactorBlock + c]) * x[r * columns + begin + c];
      sums[r] += sum;
    }
  }
  return sums;
}

}  // namespace qwb
