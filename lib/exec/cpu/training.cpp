#include "lib/exec/cpu/training.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/parallel.h"
#include "lib/exec/counter_bits.h"
#include "lib/exec/cpu/attention_back.h"
#include "lib/exec/cpu/operands.h"
#include "lib/exec/cpu/simd.h"
#include "lib/exec/cpu/thread_scratch.h"
#include "lib/exec/cpu/training_products.h"
#include "lib/exec/cpu/training_simd.h"
#include "lib/exec/dynamic_map.h"

namespace qwb {
namespace {

float keep_of(Accumulate accumulate) {
  return accumulate == Accumulate::yes ? 1.0f : 0.0f;
}

simd::AdamWRun run_of(const AdamW& s) {
  const auto step = static_cast<double>(s.step);
  const auto narrow = [](double value) { return static_cast<float>(value); };
  return {.keep = narrow(1 - s.rate * s.decay),
          .rate = narrow(s.rate / (1 - std::pow(s.beta1, step))),
          .beta1 = narrow(s.beta1),
          .rest1 = narrow(1 - s.beta1),
          .beta2 = narrow(s.beta2),
          .rest2 = narrow(1 - s.beta2),
          .second = narrow(1 / (1 - std::pow(s.beta2, step))),
          .eps = narrow(s.eps),
          .gradient_scale = narrow(s.gradient_scale)};
}

using Moments = std::array<float, kMomentBlock>;

void decode_moments(const DynamicMap& map, const uint8_t* codes, float scale, int64_t count,
                    Moments& values) {
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = map[codes[i]] * scale;
}

// Returns the scale.
float encode_moments(const DynamicMap& map, const Moments& values, int64_t count, uint8_t* codes) {
  const float largest = simd::max_magnitude(values.data(), count);
  for (int64_t i = 0; i < count; ++i)
    codes[i] = nearest_code(map, largest > 0 ? values[static_cast<size_t>(i)] / largest : 0.0f);
  return largest;
}

class CpuTraining final : public TrainingOps {
 public:
  CpuTraining(const Executor& executor, Products products)
      : TrainingOps(executor), products_(products), threads_(executor.threads()) {}

  void linear_back(In dy, const Prepared& weight, Out dx, Accumulate accumulate) const override {
    dense(dy), dense(dx);
    qwb::linear_back(products_, dy, weight.stored(), dx, accumulate == Accumulate::yes, threads_);
  }
  void multiply_transposed(In x, In m, float factor, Out y, Accumulate accumulate) const override {
    tiled_product({x.rows, m.rows, x.columns}, {dense(x), x.columns}, {dense(m), m.columns, true},
                  {dense(y), y.columns, keep_of(accumulate)}, factor, threads_);
  }
  void multiply(In x, In m, float factor, Out y, Accumulate accumulate) const override {
    tiled_product({x.rows, m.columns, x.columns}, {dense(x), x.columns}, {dense(m), m.columns},
                  {dense(y), y.columns, keep_of(accumulate)}, factor, threads_);
  }
  void add_outer(In a, In b, float factor, Out m) const override {
    tiled_product({a.columns, b.columns, a.rows}, {dense(a), a.columns, true},
                  {dense(b), b.columns}, {dense(m), m.columns, 1}, factor, threads_);
  }

  void rms_norm_back(In x, In gain, double eps, In dy, Out dx, Accumulate accumulate,
                     Out dgain) const override {
    if (!dgain.empty()) return TrainingOps::rms_norm_back(x, gain, eps, dy, dx, accumulate, dgain);
    by_norm_rows(x, gain, dy, dx, [&](const simd::NormRow& row, float* to) {
      simd::rms_norm_back(row, static_cast<float>(eps), accumulate == Accumulate::yes, to);
    });
  }
  void layer_norm_back(In x, In gain, double eps, In dy, Out dx,
                       Accumulate accumulate) const override {
    by_norm_rows(x, gain, dy, dx, [&](const simd::NormRow& row, float* to) {
      simd::layer_norm_back(row, static_cast<float>(eps), accumulate == Accumulate::yes, to);
    });
  }

  void attention(In queries, In keys, In values, const AttentionShape& shape, Out y,
                 Out sums) const override {
    attend_kept(queries, keys, values, shape, y, sums, threads_);
  }
  void attention_back(const Attended& kept, const AttentionShape& shape, In dy, Out dq, Out dk,
                      Out dv) const override {
    attend_back(kept, shape, dy, {dq, dk, dv}, threads_);
  }
  void activate_back(Activation activation, In gate, In up, In dy, Out dgate,
                     Out dup) const override {
    dense(gate), dense(up), dense(dy), dense(dgate), dense(dup);
    const bool gated = !up.empty();
    parallel_ranges(threads_, gate.count(), kElementGrain, [&](int64_t begin, int64_t end) {
      simd::activate_back(activation,
                          {gate.data + begin, gated ? up.data + begin : nullptr, dy.data + begin,
                           dgate.data + begin, gated ? dup.data + begin : nullptr, end - begin});
    });
  }

  void losses_back(In x, const Prepared& weight, std::span<const int32_t> targets,
                   std::span<const float> factors, const LogitShape& shape,
                   std::span<double> losses, Out dx) const override {
    dense(x), dense(dx);
    qwb::losses_back(products_, x, weight.stored(), {targets, factors, shape, losses}, dx,
                     threads_);
  }

  void drop_out(In x, std::span<const uint64_t> keys, double probability, Out y) const override {
    const float* from = dense(x);
    float* to = dense(y);
    const auto bound = static_cast<float>(probability);
    const auto factor = static_cast<float>(1 / (1 - probability));
    const int64_t n = x.columns;
    parallel_ranges(
        threads_, x.rows, std::max<int64_t>(1, kElementGrain / n), [&](int64_t begin, int64_t end) {
          for (int64_t i = begin * n; i < end * n; ++i) {
            const uint64_t key = keys[static_cast<size_t>(i / n)];
            const bool drops = counter_uniform(key, static_cast<uint64_t>(i % n)) < bound;
            to[i] = drops ? 0.0f : from[i] * factor;
          }
        });
  }

  void adamw(Out values, In gradient, Out first, Out second, const AdamW& step) const override {
    dense(values), dense(gradient), dense(first), dense(second);
    const simd::AdamWRun run = run_of(step);
    parallel_ranges(threads_, values.count(), kElementGrain, [&](int64_t begin, int64_t end) {
      simd::adamw(values.data + begin, gradient.data + begin, first.data + begin,
                  second.data + begin, end - begin, run);
    });
  }
  void adamw(Out values, In gradient, const CodedMoments& moments,
             const AdamW& step) const override {
    dense(values), dense(gradient);
    const simd::AdamWRun run = run_of(step);
    auto* firsts = reinterpret_cast<uint8_t*>(dense(moments.first));
    auto* seconds = reinterpret_cast<uint8_t*>(dense(moments.second));
    const DynamicMap &with_signs = dynamic_map(true), &without = dynamic_map(false);
    parallel_for(threads_, ceil_div(values.count(), kMomentBlock), [&](int64_t block) {
      const int64_t begin = block * kMomentBlock;
      const int64_t count = std::min(kMomentBlock, values.count() - begin);
      Moments m, v;
      float &scale1 = moments.first_scales.data[block], &scale2 = moments.second_scales.data[block];
      decode_moments(with_signs, firsts + begin, scale1, count, m);
      decode_moments(without, seconds + begin, scale2, count, v);
      simd::adamw(values.data + begin, gradient.data + begin, m.data(), v.data(), count, run);
      scale1 = encode_moments(with_signs, m, count, firsts + begin);
      scale2 = encode_moments(without, v, count, seconds + begin);
    });
  }

  double sum_of_squares(In x) const override {
    const float* values = dense(x);
    std::vector<double> parts(static_cast<size_t>(ceil_div(x.count(), kElementGrain)));
    parallel_ranges(threads_, x.count(), kElementGrain, [&](int64_t begin, int64_t end) {
      double& sum = parts[static_cast<size_t>(begin / kElementGrain)];
      for (int64_t i = begin; i < end; ++i)
        sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    });
    double sum = 0;
    for (const double part : parts) sum += part;
    return sum;
  }

 private:
  template <class Body>
  void by_norm_rows(In x, In gain, In dy, Out dx, const Body& body) const {
    dense(x), dense(gain), dense(dy), dense(dx);
    const int64_t n = x.columns;
    parallel_ranges(threads_, x.rows, std::max<int64_t>(1, kElementGrain / n),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t r = begin; r < end; ++r)
                        body({x.data + r * n, gain.data, dy.data + r * n, n}, dx.data + r * n);
                    });
  }

  Products products_;
  Threads threads_;
};

}  // namespace

std::unique_ptr<const TrainingOps> cpu_training(const Executor& executor, Products products) {
  return std::make_unique<CpuTraining>(executor, products);
}

}  // namespace qwb
