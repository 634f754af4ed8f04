#include "lib/adapt/repair.h"

#include <algorithm>
#include <cmath>

#include "formats/convert_weights.h"
#include "lib/adapt/svd.h"
#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/quantize/encode/module_weight.h"
#include "lib/quantize/solve/gptq_moments.h"

namespace qwb {
namespace {

constexpr int64_t kColumnsAtOnce = 8;  // right sides that are solved together

// R of H = R R^T, upper triangular, f32 [n, n] on the host.
class RootOfMoments {
 public:
  RootOfMoments(std::vector<float> upper, int64_t size, Context context)
      : upper_(std::move(upper)), n_(size), context_(std::move(context)) {}

  // R x, R^T x, R^-1 x, R^-T x for every column.
  ColumnMatrix times(const ColumnMatrix& x) const {
    return by_columns(x, [&](const double* from, double* to) {
      for (int64_t i = 0; i < n_; ++i) {
        double sum = 0;
        for (int64_t j = i; j < n_; ++j) sum += static_cast<double>(row(i)[j]) * from[j];
        to[i] = sum;
      }
    });
  }
  ColumnMatrix transposed_times(const ColumnMatrix& x) const {
    return by_columns(x, [&](const double* from, double* to) {
      for (int64_t i = 0; i < n_; ++i) add_row(i, i, from[i], to);
    });
  }
  ColumnMatrix solve(const ColumnMatrix& x) const {
    return by_columns(x, [&](const double* from, double* to) {
      for (int64_t i = n_ - 1; i >= 0; --i) {
        double sum = from[i];
        for (int64_t j = i + 1; j < n_; ++j) sum -= static_cast<double>(row(i)[j]) * to[j];
        to[i] = sum / static_cast<double>(row(i)[i]);
      }
    });
  }
  ColumnMatrix transposed_solve(const ColumnMatrix& x) const {
    return by_columns(x, [&](const double* from, double* to) {
      std::copy_n(from, n_, to);
      for (int64_t i = 0; i < n_; ++i) {
        to[i] /= static_cast<double>(row(i)[i]);
        add_row(i, i + 1, -to[i], to);
      }
    });
  }
  const float* row(int64_t i) const { return upper_.data() + i * n_; }
  int64_t size() const { return n_; }

 private:
  void add_row(int64_t i, int64_t first, double factor, double* to) const {
    for (int64_t j = first; j < n_; ++j) to[j] += factor * static_cast<double>(row(i)[j]);
  }
  template <class Work>
  ColumnMatrix by_columns(const ColumnMatrix& x, const Work& work) const {
    ColumnMatrix y(n_, x.columns);
    parallel_for(context_, x.columns, [&](int64_t c) { work(x.column(c), y.column(c)); });
    return y;
  }

  std::vector<float> upper_;
  int64_t n_;
  Context context_;
};

// Matrices f32 of a module, as products know them.
struct Dense {
  const float* values;
  int64_t rows, columns;
};

// The right side of a product with what the codes should aim at besides W: strength W D for the
// drift D, or strength (Y - W H) for what the module should give; null: nothing.
struct AimOfModule {
  std::vector<float> drift = {};                 // D [n, n]
  std::vector<float> wanted = {}, hessian = {};  // Y [out, n], H [n, n]
  double strength = 0;
};

std::vector<float> on_host(const Moments& moments, In view) {
  return view.empty() ? std::vector<float>() : moments.executor->download(view);
}

AimOfModule aim_of(const ModuleTask& task, const ModuleResult& result) {
  AimOfModule aim;
  if (!json_has(result.details, "correction")) return aim;
  aim.strength = json_number(result.details, "correction", task.info.name);
  if (!result.bias_shift.empty())
    throw Error(ErrorKind::unsupported,
                "its bias has taken up a part of the error, which a repair would move again",
                task.info.name, "quantize with --refine codes");
  aim.drift = on_host(*task.moments, task.moments->drift);
  if (aim.drift.empty()) {
    aim.wanted = on_host(*task.moments, task.moments->wanted);
    aim.hessian = on_host(*task.moments, task.moments->hessian);
  }
  return aim;
}

void add_to_columns(const ColumnMatrix& more, double factor, ColumnMatrix& sum) {
  for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += factor * more.values[i];
}

// (T - Q) R by its products: E R + strength (W D) R^-T, E = W - Q.
MatrixProducts error_products(const Dense& error, const Dense& weight, const AimOfModule& aim,
                              const RootOfMoments& root, const Context& context) {
  const int64_t n = error.columns;
  const auto times = [context](const std::vector<float>& m, int64_t rows, int64_t columns,
                               const ColumnMatrix& x) {
    return matrix_times(m.data(), rows, columns, x, context);
  };
  const auto turned = [context](const std::vector<float>& m, int64_t rows, int64_t columns,
                                const ColumnMatrix& y) {
    return matrix_transposed_times(m.data(), rows, columns, y, context);
  };
  MatrixProducts products{error.rows, n, {}, {}};
  products.times = [=, &root, &aim](const ColumnMatrix& x) {
    ColumnMatrix y = matrix_times(error.values, error.rows, n, root.times(x), context);
    if (aim.strength == 0) return y;
    const ColumnMatrix z = root.transposed_solve(x);
    if (!aim.drift.empty()) {
      const ColumnMatrix moved = times(aim.drift, n, n, z);
      add_to_columns(matrix_times(weight.values, weight.rows, n, moved, context), aim.strength, y);
    } else {
      add_to_columns(times(aim.wanted, error.rows, n, z), aim.strength, y);
      const ColumnMatrix own = times(aim.hessian, n, n, z);
      add_to_columns(matrix_times(weight.values, weight.rows, n, own, context), -aim.strength, y);
    }
    return y;
  };
  products.times_transposed = [=, &root, &aim](const ColumnMatrix& y) {
    ColumnMatrix x =
        root.transposed_times(matrix_transposed_times(error.values, error.rows, n, y, context));
    if (aim.strength == 0) return x;
    const ColumnMatrix back = matrix_transposed_times(weight.values, weight.rows, n, y, context);
    ColumnMatrix z(n, y.columns);
    if (!aim.drift.empty()) {
      z = turned(aim.drift, n, n, back);
    } else {
      z = turned(aim.wanted, error.rows, n, y);
      add_to_columns(times(aim.hessian, n, n, back), -1, z);
    }
    add_to_columns(root.solve(z), aim.strength, x);
    return x;
  };
  return products;
}

// |M|^2 by rows of the identity, a few at a time.
double squared_norm(const MatrixProducts& matrix) {
  double sum = 0;
  for (int64_t first = 0; first < matrix.rows; first += kColumnsAtOnce) {
    const int64_t count = std::min(kColumnsAtOnce, matrix.rows - first);
    ColumnMatrix unit(matrix.rows, count);
    for (int64_t c = 0; c < count; ++c) unit.column(c)[first + c] = 1;
    for (const double value : matrix.times_transposed(unit).values) sum += value * value;
  }
  return sum;
}

AdapterModule factors_of(const ModuleInfo& info, const Svd& svd, const RootOfMoments& root) {
  const auto rank = static_cast<int64_t>(svd.s.size());
  AdapterModule m{.module = info.name, .rank = rank, .in = info.in, .out = info.out};
  const ColumnMatrix rows = root.transposed_solve(svd.v);  // (V^T R^-1)^T
  m.a.resize(static_cast<size_t>(rank * info.in));
  m.b.resize(static_cast<size_t>(info.out * rank));
  for (int64_t k = 0; k < rank; ++k) {
    const double half = std::sqrt(svd.s[k]);
    for (int64_t i = 0; i < info.in; ++i)
      m.a[k * info.in + i] = static_cast<float>(half * rows.column(k)[i]);
    for (int64_t o = 0; o < info.out; ++o)
      m.b[o * rank + k] = static_cast<float>(half * svd.u.column(k)[o]);
  }
  return m;
}

double weight_energy(const Dense& weight, const RootOfMoments& root, const Context& context) {
  const MatrixProducts plain{weight.rows, weight.columns, {}, [&](const ColumnMatrix& y) {
                               return root.transposed_times(matrix_transposed_times(
                                   weight.values, weight.rows, weight.columns, y, context));
                             }};
  return squared_norm(plain);
}

}  // namespace

Repaired repair_module(const ModuleTask& task, const ModuleResult& result, int64_t rank) {
  const ModuleInfo& info = task.info;
  if (task.folded != nullptr && !task.folded->empty())
    throw Error(ErrorKind::unsupported, "repairs of methods that scale inputs", info.name,
                "take gptq");
  const In hessian = required_hessian(task);
  const Executor& executor = *task.moments->executor;
  GptqSettings settings;
  settings.order = ColumnOrder::sequential;
  const PreparedMoments prepared =
      prepare_moments(executor, hessian, settings, info.name, task.context.stop);
  const RootOfMoments root(executor.download(prepared.upper), info.in, task.context);
  const FloatBuffer weight = read_out_in(task);
  FloatBuffer error = read_out_in_f32(result.tensor.view(), task.context);
  for (int64_t i = 0; i < error.size(); ++i) error[i] = weight[i] - error[i];
  const Dense w{weight.data(), info.out, info.in}, e{error.data(), info.out, info.in};
  const AimOfModule aim = aim_of(task, result);
  const MatrixProducts products = error_products(e, w, aim, root, task.context);
  const Svd svd = truncated_svd(products, rank, task.context);
  Repaired repaired{factors_of(info, svd, root)};
  const double all = squared_norm(products), scale = weight_energy(w, root, task.context);
  double taken = 0;
  for (const double s : svd.s) taken += s * s;
  repaired.error_before = scale > 0 ? all / scale : 0;
  repaired.error_after = scale > 0 ? std::max(0.0, all - taken) / scale : 0;
  return repaired;
}

}  // namespace qwb
