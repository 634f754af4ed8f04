#include "tests/quantize/gptq_helper.h"

#include <cmath>

#include "lib/base/rng.h"

namespace qwb {
namespace {

using SquareF64 = std::vector<double>;  // row-major, square

SquareF64 inverse(SquareF64 a, int64_t n) {
  SquareF64 result(a.size());
  for (int64_t i = 0; i < n; ++i) result[i * n + i] = 1;
  for (int64_t j = 0; j < n; ++j) {  // positive definite: no pivoting needed
    const double pivot = a[j * n + j];
    for (int64_t k = 0; k < n; ++k) {
      a[j * n + k] /= pivot;
      result[j * n + k] /= pivot;
    }
    for (int64_t i = 0; i < n; ++i) {
      const double factor = a[i * n + j];
      if (i == j || factor == 0) continue;
      for (int64_t k = 0; k < n; ++k) {
        a[i * n + k] -= factor * a[j * n + k];
        result[i * n + k] -= factor * result[j * n + k];
      }
    }
  }
  return result;
}

// One row: w is compensated in place.
class RowSolver {
 public:
  RowSolver(const GptqSettings& settings, const std::vector<int64_t>& order, SquareF64 eliminated)
      : settings_(settings), order_(order), rows_(std::move(eliminated)) {}

  void run(const float* weight, int64_t n, uint8_t* codes, float* values) const {
    std::vector<double> w(weight, weight + n);
    Grid grid;
    for (int64_t p = 0; p < n; ++p) {
      const int64_t column = order_[p], group = column / settings_.grid.group_size;
      if (settings_.order == ColumnOrder::static_groups) {
        grid = grid_of(std::vector<double>(weight, weight + n), group, n);
      } else if (p == 0 || order_[p - 1] / settings_.grid.group_size != group) {
        grid = grid_of(w, group, n);
      }
      const auto current = static_cast<float>(w[column]);
      round_to_grid(&current, 1, grid, settings_.grid.max_code(), codes + column);
      values[column] = grid_value(codes[column], grid);
      const double* row = rows_.data() + p * n;
      const double error = (w[column] - values[column]) / row[p];
      for (int64_t k = p; k < n; ++k) w[order_[k]] -= error * row[k];
    }
  }

 private:
  Grid grid_of(const std::vector<double>& w, int64_t group, int64_t n) const {
    const int64_t begin = group * settings_.grid.group_size,
                  end = std::min(n, begin + settings_.grid.group_size);
    const std::vector<float> values(w.begin() + begin, w.begin() + end);
    return make_grid(values.data(), end - begin, settings_.grid, "reference");
  }

  const GptqSettings& settings_;
  const std::vector<int64_t>& order_;
  SquareF64 rows_;  // row p: the inverse's row p after the elimination of the rows before it
};

}  // namespace

In square(const std::vector<float>& values) {
  const auto n = std::llround(std::sqrt(static_cast<double>(values.size())));
  return {values.data(), n, n};
}

void set_hessian(Moments& moments, const std::vector<float>& hessian, const Executor& executor) {
  moments.executor = &executor;
  moments.hessian = square(hessian);
}

PreparedMoments prepared(const std::vector<float>& hessian, const GptqSettings& settings) {
  return prepare_moments(fast_executor(), square(hessian), settings, "module");
}

GptqTask solver_task(const PreparedMoments& moments, const GptqSettings& settings) {
  GptqTask task = gptq_task(settings, moments);
  task.module = "module";
  return task;
}

std::vector<double> damped(const std::vector<float>& hessian, int64_t n, double damping) {
  SquareF64 h(hessian.begin(), hessian.end());
  double sum = 0;
  int64_t live = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += h[i * n + i];
    live += h[i * n + i] != 0 ? 1 : 0;
  }
  const double mean = live > 0 ? sum / static_cast<double>(live) : 1;
  for (int64_t i = 0; i < n; ++i) {
    if (h[i * n + i] == 0) h[i * n + i] = mean;
    h[i * n + i] += damping * mean;
  }
  return h;
}

std::vector<float> normal_values(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    const double radius = std::sqrt(-2 * std::log(1 - rng.uniform()));
    value = static_cast<float>(radius * std::cos(6.283185307179586 * rng.uniform()));
  }
  return values;
}

std::vector<float> correlated_inputs(int64_t tokens, int64_t columns, uint64_t seed) {
  const int64_t factors = std::max<int64_t>(2, columns / 8);
  const auto mixing = normal_values(factors * columns, seed),
             sizes = normal_values(columns, seed + 1);
  const auto hidden = normal_values(tokens * factors, seed + 2),
             noise = normal_values(tokens * columns, seed + 3);
  std::vector<float> inputs(static_cast<size_t>(tokens * columns));
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t c = 0; c < columns; ++c) {
      float sum = 0.5f * noise[t * columns + c];
      for (int64_t f = 0; f < factors; ++f)
        sum += hidden[t * factors + f] * mixing[f * columns + c] * 0.3f;
      inputs[t * columns + c] = sum * std::exp(sizes[c]);
    }
  }
  return inputs;
}

std::vector<float> moments_of(const std::vector<float>& inputs, int64_t columns) {
  SquareF64 sums(static_cast<size_t>(columns * columns));
  for (size_t t = 0; t < inputs.size(); t += static_cast<size_t>(columns)) {
    for (int64_t i = 0; i < columns; ++i) {
      for (int64_t j = 0; j < columns; ++j)
        sums[i * columns + j] += static_cast<double>(inputs[t + i]) * inputs[t + j];
    }
  }
  return {sums.begin(), sums.end()};
}

ReferenceResult reference_gptq(const std::vector<float>& weight, int64_t out, int64_t in,
                               const std::vector<float>& hessian, const GptqSettings& settings) {
  std::vector<float> diagonal(static_cast<size_t>(in));
  for (int64_t i = 0; i < in; ++i) diagonal[i] = hessian[i * in + i];
  const std::vector<int64_t> order =
      column_order(settings.order, diagonal, settings.grid.group_size);
  const SquareF64 h = damped(hessian, in, settings.damping);
  SquareF64 permuted(h.size());
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t j = 0; j < in; ++j) permuted[i * in + j] = h[order[i] * in + order[j]];
  }
  SquareF64 inverted = inverse(permuted, in), rows(h.size());
  for (int64_t p = 0; p < in; ++p) {
    for (int64_t k = 0; k < in; ++k) rows[p * in + k] = inverted[p * in + k];
    for (int64_t i = p + 1; i < in; ++i) {
      const double factor = inverted[i * in + p] / inverted[p * in + p];
      for (int64_t k = p; k < in; ++k) inverted[i * in + k] -= factor * rows[p * in + k];
    }
  }
  ReferenceResult result;
  result.codes.resize(weight.size());
  result.values.resize(weight.size());
  const RowSolver solver(settings, order, rows);
  for (int64_t o = 0; o < out; ++o)
    solver.run(weight.data() + o * in, in, result.codes.data() + o * in,
               result.values.data() + o * in);
  result.output_error = output_error(weight, result.values, in, hessian);
  return result;
}

double output_error(const std::vector<float>& weight, const std::vector<float>& values, int64_t in,
                    const std::vector<float>& hessian) {
  double error = 0, norm = 0;
  for (size_t row = 0; row < weight.size(); row += static_cast<size_t>(in)) {
    for (int64_t i = 0; i < in; ++i) {
      double e = 0, w = 0;
      for (int64_t j = 0; j < in; ++j) {
        e += hessian[i * in + j] * (static_cast<double>(weight[row + j]) - values[row + j]);
        w += hessian[i * in + j] * static_cast<double>(weight[row + j]);
      }
      error += e * (static_cast<double>(weight[row + i]) - values[row + i]);
      norm += w * weight[row + i];
    }
  }
  return norm > 0 ? error / norm : 0;
}

}  // namespace qwb
