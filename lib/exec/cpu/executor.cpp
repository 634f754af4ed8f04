// The fast executor on the processor: oneDNN for matrix products on fixed tiles, Highway for the
// rest, OpenMP over rows, tiles and heads.
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/attention.h"
#include "lib/exec/cpu/calibration.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/divergence.h"
#include "lib/exec/cpu/isa.h"
#include "lib/exec/cpu/linear.h"
#include "lib/exec/cpu/losses.h"
#include "lib/exec/cpu/operands.h"
#include "lib/exec/cpu/simd.h"
#include "lib/exec/cpu/thread_scratch.h"
#include "lib/exec/cpu/tile_product.h"
#include "lib/exec/cpu/training.h"
#include "lib/exec/executor.h"
#include "lib/exec/reference/reference.h"

namespace qwb {
namespace {

// One head of one token: pairs (2k, 2k + 1).
void rotate_neighbours(float* x, int64_t turned, const float* cosine, const float* sine) {
  for (int64_t k = 0; k < turned; ++k) {
    const float a = x[2 * k], b = x[2 * k + 1];
    x[2 * k] = a * cosine[k] - b * sine[k];
    x[2 * k + 1] = b * cosine[k] + a * sine[k];
  }
}

class CpuExecutor final : public Executor {
 public:
  CpuExecutor(Products products, Threads threads, std::optional<float> int8_threshold = {})
      : Executor(threads),
        ways_{products, int8_threshold, threads},
        calibration_(cpu_calibration(products, threads)),
        training_(cpu_training(*this, products)) {
    select_isa();
  }
  std::string identity() const override {
    return "cpu-" + isa_name() + (ways_.products == Products::bf16 ? "-bf16" : "") +
           (ways_.int8_threshold ? "-int8" : "");
  }
  Products products() const override { return ways_.products; }

  void copy(In from, Out to) const override {
    on_host(from), on_host(to);
    by_rows(from.rows, from.columns, [&](int64_t r) {
      std::copy_n(from.data + r * from.stride, from.columns, to.data + r * to.stride);
    });
  }

  Prepared prepare(const Weight& weight, Reuse reuse) const override {
    return prepare_linear(ways_, weight, reuse);
  }
  void linear(const Rows& x, const Affine& module, Out y, Accumulate accumulate) const override {
    qwb::linear(ways_, x, module, y, accumulate);
  }
  void linears(const Rows& x, std::span<const Output> outputs) const override {
    qwb::linears(ways_, x, outputs);
  }
  void gated(const Rows& x, const Affine* gate, const Affine& up, Activation activation,
             Out y) const override {
    // Packed weights cost nothing to begin with again: what they make is activated while it is in a
    // near cache.
    constexpr int64_t kNear = 128;
    const int64_t rows = x.values.rows;
    if (up.weight.extra() == nullptr || !x.pieces.empty() || rows <= kNear)
      return Executor::gated(x, gate, up, activation, y);
    for (int64_t begin = 0; begin < rows; begin += kNear) {
      const int64_t count = std::min(rows - begin, kNear);
      Executor::gated(x.values.row_range(begin, count), gate, up, activation,
                      y.row_range(begin, count));
    }
  }

  void look_up(const Prepared& weight, std::span<const int32_t> ids, Out y) const override {
    float* out = dense(y);
    parallel_ranges(threads(), std::ssize(ids), 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int32_t id = ids[i];
        dequantize_rows(weight.stored(), id, id + 1, out + i * y.columns);
      }
    });
  }
  void gather(In x, std::span<const int64_t> rows, Out y) const override {
    const float* from = on_host(x);
    float* to = on_host(y);
    by_rows(std::ssize(rows), x.columns, [&](int64_t r) {
      std::copy_n(from + rows[r] * x.stride, x.columns, to + r * y.stride);
    });
  }
  void scatter_add(In x, std::span<const int64_t> rows, std::span<const float> factors,
                   Out y) const override {
    const float* from = on_host(x);
    for (size_t r = 0; r < rows.size(); ++r, from += x.stride) {
      const float factor = factors[r];
      float* to = on_host(y) + rows[r] * y.stride;
      for (int64_t c = 0; c < x.columns; ++c) to[c] += factor * from[c];
    }
  }

  void rms_norm(In x, In gain, double eps, Out y) const override {
    const int64_t n = x.columns;
    const float *from = dense(x), *gains = dense(gain);
    float* to = dense(y);
    by_rows(x.rows, n, [&](int64_t r) {
      simd::rms_norm(from + r * n, n, gains, static_cast<float>(eps), to + r * n);
    });
  }
  void layer_norm(In x, In gain, In bias, double eps, Out y) const override {
    const int64_t n = x.columns;
    const float *from = dense(x), *gains = dense(gain), *biases = dense(bias);
    float* to = dense(y);
    by_rows(x.rows, n, [&](int64_t r) {
      simd::layer_norm(from + r * n, n, gains, biases, static_cast<float>(eps), to + r * n);
    });
  }
  void rotate(Out x, int64_t head_dim, In cosine, In sine, RotaryPairs pairs) const override {
    const int64_t turned = cosine.columns;
    float* values = on_host(x);
    const float *cosines = dense(cosine), *sines = dense(sine);
    const auto turn = pairs == RotaryPairs::halves ? &simd::rotate : &rotate_neighbours;
    by_rows(x.rows, x.columns, [&](int64_t t) {
      for (int64_t begin = 0; begin < x.columns; begin += head_dim)
        turn(values + t * x.stride + begin, turned, cosines + t * turned, sines + t * turned);
    });
  }
  void attention(In queries, In keys, In values, const AttentionShape& shape,
                 Out y) const override {
    attend(queries, keys, values, shape, ways_.products, y, threads());
  }

  void activate(Activation activation, Out x) const override {
    elementwise(x, [&](float* values, int64_t, int64_t count) {
      simd::activate(activation, values, nullptr, count);
    });
  }
  void activate(Activation activation, Out x, In up) const override {
    const float* factors = dense(up);
    elementwise(x, [&](float* values, int64_t begin, int64_t count) {
      simd::activate(activation, values, factors + begin, count);
    });
  }
  void add(Out x, In y) const override {
    const float* summands = dense(y);
    elementwise(x, [&](float* values, int64_t begin, int64_t count) {
      simd::add(values, summands + begin, count);
    });
  }
  void fill(Out x, float value) const override {
    elementwise(x,
                [&](float* values, int64_t, int64_t count) { std::fill_n(values, count, value); });
  }
  void scale(Out x, float factor) const override {
    elementwise(x, [&](float* values, int64_t, int64_t count) {
      for (int64_t i = 0; i < count; ++i) values[i] *= factor;
    });
  }
  void soft_cap(Out x, float cap) const override {
    elementwise(
        x, [&](float* values, int64_t, int64_t count) { simd::soft_cap(values, count, 1, cap); });
  }

  void losses(In x, const Prepared& weight, std::span<const int32_t> targets,
              const LogitShape& shape, std::span<double> losses) const override {
    token_losses(ways_, x, weight.stored(), targets, shape, losses);
  }
  void divergence(In base, In other, std::span<const int32_t> targets,
                  std::span<RowDivergence> differences) const override {
    const float *a = dense(base), *b = dense(other);
    parallel_for(threads(), base.rows, [&](int64_t r) {
      const auto i = static_cast<size_t>(r);
      differences[i] =
          row_divergence(a + r * base.columns, b + r * base.columns, base.columns, targets[i]);
    });
  }
  bool all_finite(In x) const override { return simd::all_finite(dense(x), x.count()); }
  const CalibrationOps& calibration() const override { return *calibration_; }
  const TrainingOps& training() const override { return *training_; }

 private:
  template <class Body>
  void by_rows(int64_t rows, int64_t n, const Body& body) const {
    parallel_ranges(threads(), rows, std::max<int64_t>(1, kElementGrain / n),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t r = begin; r < end; ++r) body(r);
                    });
  }
  // body(values, the number of the first one, how many)
  template <class Body>
  void elementwise(Out x, const Body& body) const {
    float* values = dense(x);
    parallel_ranges(threads(), x.count(), kElementGrain,
                    [&](int64_t begin, int64_t end) { body(values + begin, begin, end - begin); });
  }

  LinearWays ways_;
  std::unique_ptr<const CalibrationOps> calibration_;
  std::unique_ptr<const TrainingOps> training_;
};

}  // namespace

std::unique_ptr<Executor> make_executor(ExecutorKind kind, Threads threads) {
  if (kind == ExecutorKind::reference) return make_reference_executor();
  return std::make_unique<CpuExecutor>(kind == ExecutorKind::bf16 ? Products::bf16 : Products::f32,
                                       threads);
}

std::unique_ptr<Executor> make_int8_executor(float threshold, Threads threads) {
  if (!(threshold >= 0) || !std::isfinite(threshold))
    throw Error(ErrorKind::usage, "the outlier threshold must be 0 (off) or a positive number");
  return std::make_unique<CpuExecutor>(Products::f32, threads, threshold);
}

ExecutorKind calibration_executor() {
  select_isa();
  return !bf16_units().empty() ? ExecutorKind::bf16 : ExecutorKind::fast;
}

}  // namespace qwb
