// Singular values of small and of low-rank matrices, in f64. No library of the project has them;
// what is needed here is small: one-sided Jacobi rotations (Hestenes 1958; Demmel and Veselic 1992
// show that they find small singular values as exactly as large ones) of a square matrix, thin QR
// by Gram-Schmidt done twice ("twice is enough", Giraud et al. 2005), and a randomized range finder
// with power iterations (Halko, Martinsson and Tropp 2011) for large ones.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "lib/base/context.h"

namespace qwb {

// Columns one behind the other.
struct ColumnMatrix {
  int64_t rows = 0, columns = 0;
  std::vector<double> values = {};

  ColumnMatrix() = default;
  ColumnMatrix(int64_t r, int64_t c) : rows(r), columns(c), values(static_cast<size_t>(r * c)) {}
  double* column(int64_t c) { return values.data() + c * rows; }
  const double* column(int64_t c) const { return values.data() + c * rows; }
};

// M = U diag(s) V^T, s descending. U [rows, k], V [columns, k].
struct Svd {
  ColumnMatrix u, v;
  std::vector<double> s;
};

// m x and m^T y for m f32 [rows, columns], row-major.
ColumnMatrix matrix_times(const float* m, int64_t rows, int64_t columns, const ColumnMatrix& x,
                          const Context& context);
ColumnMatrix matrix_transposed_times(const float* m, int64_t rows, int64_t columns,
                                     const ColumnMatrix& y, const Context& context);

// The columns become orthonormal; returns R [columns, columns] with M = Q R. A column that the
// others span becomes zero.
ColumnMatrix orthonormalize(ColumnMatrix& m, const Context& context = {});

// Of left [m, n] right^T with right [k, n]: exact.
Svd svd_of_product(const ColumnMatrix& left, const ColumnMatrix& right,
                   const Context& context = {});

// The `rank` largest singular triples of a matrix [rows, columns] that is known by its products:
// times(X [columns, l]) = M X and times_transposed(Y [rows, l]) = M^T Y. Exact where rank and the
// oversampling reach min(rows, columns); else as good as the power iterations make it. The same on
// any number of threads.
struct MatrixProducts {
  int64_t rows = 0, columns = 0;
  std::function<ColumnMatrix(const ColumnMatrix&)> times, times_transposed;
};
Svd truncated_svd(const MatrixProducts& matrix, int64_t rank, const Context& context = {});

}  // namespace qwb
