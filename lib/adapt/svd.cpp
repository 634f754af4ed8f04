#include "lib/adapt/svd.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/parallel.h"
#include "lib/base/rng.h"

namespace qwb {
namespace {

constexpr int kMostSweeps = 60;
constexpr double kOrthogonal = 1e-15;  // cosine below which two columns count as orthogonal
constexpr int64_t kOversampling = 10;
constexpr int kPowerIterations = 6;
constexpr int64_t kProductValues = 1 << 15;  // multiplications that are worth a thread

double dot(const double* a, const double* b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

void add_scaled(double factor, const double* x, double* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] += factor * x[i];
}

void rotate_columns(double* a, double* b, double cosine, double sine, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double x = a[i], y = b[i];
    a[i] = cosine * x - sine * y;
    b[i] = sine * x + cosine * y;
  }
}

// Makes columns p and q of m orthogonal, v along. False if they were.
bool make_orthogonal(ColumnMatrix& m, ColumnMatrix& v, int64_t p, int64_t q) {
  const double a = dot(m.column(p), m.column(p), m.rows);
  const double b = dot(m.column(q), m.column(q), m.rows);
  const double c = dot(m.column(p), m.column(q), m.rows);
  if (c == 0 || std::abs(c) <= kOrthogonal * std::sqrt(a * b)) return false;
  const double zeta = (b - a) / (2 * c);
  const double tangent = (zeta >= 0 ? 1 : -1) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
  const double cosine = 1 / std::sqrt(1 + tangent * tangent), sine = cosine * tangent;
  rotate_columns(m.column(p), m.column(q), cosine, sine, m.rows);
  rotate_columns(v.column(p), v.column(q), cosine, sine, v.rows);
  return true;
}

// Of m [rows, n] with rows >= n: m V = U s.
Svd jacobi_svd(ColumnMatrix m) {
  const int64_t n = m.columns;
  ColumnMatrix v(n, n);
  for (int64_t i = 0; i < n; ++i) v.column(i)[i] = 1;
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    bool turned = false;
    for (int64_t p = 0; p < n; ++p) {
      for (int64_t q = p + 1; q < n; ++q) turned = make_orthogonal(m, v, p, q) || turned;
    }
    if (!turned) break;
  }
  std::vector<double> norms;
  for (int64_t c = 0; c < n; ++c) norms.push_back(std::sqrt(dot(m.column(c), m.column(c), m.rows)));
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::ranges::stable_sort(order, [&](int64_t a, int64_t b) { return norms[a] > norms[b]; });
  Svd svd{ColumnMatrix(m.rows, n), ColumnMatrix(n, n), {}};
  for (int64_t k = 0; k < n; ++k) {
    const int64_t from = order[k];
    svd.s.push_back(norms[from]);
    if (norms[from] > 0) add_scaled(1 / norms[from], m.column(from), svd.u.column(k), m.rows);
    std::copy_n(v.column(from), n, svd.v.column(k));
  }
  return svd;
}

// a [m, n] b [n, k]
ColumnMatrix product(const ColumnMatrix& a, const ColumnMatrix& b, const Context& context) {
  ColumnMatrix y(a.rows, b.columns);
  const int64_t work = std::max<int64_t>(1, a.rows * a.columns);
  parallel_ranges(context, b.columns, std::max<int64_t>(1, kProductValues / work),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t c = begin; c < end; ++c) {
                      for (int64_t i = 0; i < a.columns; ++i)
                        add_scaled(b.column(c)[i], a.column(i), y.column(c), a.rows);
                    }
                  });
  return y;
}

// a b^T with a [m, n], b [k, n]
ColumnMatrix product_transposed(const ColumnMatrix& a, const ColumnMatrix& b,
                                const Context& context) {
  ColumnMatrix turned(b.columns, b.rows);
  for (int64_t c = 0; c < b.columns; ++c) {
    for (int64_t r = 0; r < b.rows; ++r) turned.column(r)[c] = b.column(c)[r];
  }
  return product(a, turned, context);
}

}  // namespace

namespace {

// Row by row, so that the loops over the columns need no reduction.
std::vector<double> row_major(const ColumnMatrix& m) {
  std::vector<double> rows(m.values.size());
  for (int64_t c = 0; c < m.columns; ++c) {
    for (int64_t r = 0; r < m.rows; ++r) rows[r * m.columns + c] = m.column(c)[r];
  }
  return rows;
}

ColumnMatrix from_row_major(const std::vector<double>& rows, int64_t count, int64_t columns) {
  ColumnMatrix m(count, columns);
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < count; ++r) m.column(c)[r] = rows[r * columns + c];
  }
  return m;
}

constexpr int64_t kProductGrain = 64;  // rows, or columns, that one thread takes at a time

}  // namespace

ColumnMatrix matrix_times(const float* m, int64_t rows, int64_t columns, const ColumnMatrix& x,
                          const Context& context) {
  const int64_t width = x.columns;
  const std::vector<double> right = row_major(x);
  std::vector<double> made(static_cast<size_t>(rows * width));
  parallel_ranges(context, rows, kProductGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = 0; i < columns; ++i)
        add_scaled(m[r * columns + i], right.data() + i * width, made.data() + r * width, width);
    }
  });
  return from_row_major(made, rows, width);
}

ColumnMatrix matrix_transposed_times(const float* m, int64_t rows, int64_t columns,
                                     const ColumnMatrix& y, const Context& context) {
  const int64_t width = y.columns;
  const std::vector<double> right = row_major(y);
  std::vector<double> made(static_cast<size_t>(columns * width));
  parallel_ranges(context, columns, kProductGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = begin; i < end; ++i)
        add_scaled(m[r * columns + i], right.data() + r * width, made.data() + i * width, width);
    }
  });
  return from_row_major(made, columns, width);
}

ColumnMatrix orthonormalize(ColumnMatrix& m, const Context& context) {
  const int64_t grain = std::max<int64_t>(1, kProductValues / std::max<int64_t>(1, m.rows));
  ColumnMatrix r(m.columns, m.columns);
  for (int64_t c = 0; c < m.columns; ++c) {
    context.stop.check();
    double* own = m.column(c);
    const double before = std::sqrt(dot(own, own, m.rows));
    for (int pass = 0; pass < 2; ++pass) {
      std::vector<double> shares(static_cast<size_t>(c));
      parallel_ranges(context, c, grain, [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) shares[k] = dot(m.column(k), own, m.rows);
      });
      for (int64_t k = 0; k < c; ++k) {
        add_scaled(-shares[k], m.column(k), own, m.rows);
        r.column(c)[k] += shares[k];
      }
    }
    const double norm = std::sqrt(dot(own, own, m.rows));
    const bool spanned = !(norm > 1e-14 * before);
    r.column(c)[c] = spanned ? 0 : norm;
    for (int64_t i = 0; i < m.rows; ++i) own[i] = spanned ? 0 : own[i] / norm;
  }
  return r;
}

Svd svd_of_product(const ColumnMatrix& left, const ColumnMatrix& right, const Context& context) {
  ColumnMatrix q_left = left, q_right = right;
  const ColumnMatrix r_left = orthonormalize(q_left, context);
  const ColumnMatrix r_right = orthonormalize(q_right, context);
  Svd small = jacobi_svd(product_transposed(r_left, r_right, context));
  return {product(q_left, small.u, context), product(q_right, small.v, context),
          std::move(small.s)};
}

Svd truncated_svd(const MatrixProducts& matrix, int64_t rank, const Context& context) {
  const int64_t least = std::min(matrix.rows, matrix.columns);
  const int64_t width = std::min(least, rank + kOversampling);
  ColumnMatrix range(matrix.columns, width);
  Rng rng(1);
  for (double& value : range.values) value = rng.uniform() - 0.5;
  ColumnMatrix left = matrix.times(range);
  orthonormalize(left, context);
  for (int i = 0; i < kPowerIterations; ++i) {
    ColumnMatrix right = matrix.times_transposed(left);
    orthonormalize(right, context);
    left = matrix.times(right);
    orthonormalize(left, context);
  }
  // M is about left (M^T left)^T.
  Svd svd = svd_of_product(left, matrix.times_transposed(left), context);
  const int64_t kept = std::min(rank, width);
  for (ColumnMatrix* side : {&svd.u, &svd.v}) {
    side->values.resize(static_cast<size_t>(side->rows * kept));
    side->columns = kept;
  }
  svd.s.resize(static_cast<size_t>(kept));
  return svd;
}

}  // namespace qwb
