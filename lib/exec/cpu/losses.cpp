#include "lib/exec/cpu/losses.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/int8_product.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/operands.h"
#include "lib/exec/cpu/simd.h"
#include "lib/exec/cpu/slab.h"
#include "lib/exec/cpu/thread_scratch.h"

namespace qwb {
namespace {

constexpr int64_t kVocabularySlab = 4096;  // logits of a row held at a time

// Running log-sum-exp of each row over slices of the vocabulary.
class RunningLosses {
 public:
  RunningLosses(std::span<const int32_t> targets, Threads threads)
      : targets_(targets),
        threads_(threads),
        maximum_(targets.size(), -std::numeric_limits<float>::infinity()),
        chosen_(targets.size()),
        sum_(targets.size()) {}

  // logits [rows, count] of the tokens from `begin` on.
  void add(const float* logits, int64_t begin, int64_t count) {
    const auto rows = static_cast<int64_t>(targets_.size());
    parallel_for(threads_, ceil_div(rows, 8), [&](int64_t chunk) {
      for (int64_t r = chunk * 8; r < std::min(rows, chunk * 8 + 8); ++r) {
        const auto i = static_cast<size_t>(r);
        const float* row = logits + r * count;
        // Vector maxima may drop a NaN: look for it first.
        if (!simd::all_finite(row, count)) sum_[i] = std::numeric_limits<double>::quiet_NaN();
        simd::accumulate_softmax(row, count, maximum_[i], sum_[i]);
        const int64_t target = targets_[i] - begin;
        if (target >= 0 && target < count) chosen_[i] = row[target];
      }
    });
  }
  void finish(std::span<double> losses) const {
    for (size_t i = 0; i < targets_.size(); ++i) {
      losses[i] =
          static_cast<double>(maximum_[i]) + std::log(sum_[i]) - static_cast<double>(chosen_[i]);
    }
  }

 private:
  std::span<const int32_t> targets_;
  Threads threads_;
  std::vector<float> maximum_, chosen_;
  std::vector<double> sum_;
};

void shape_logits(float* logits, int64_t count, const LogitShape& shape) {
  if (shape.cap != 0) return simd::soft_cap(logits, count, shape.scale, shape.cap);
  if (shape.scale == 1) return;
  for (int64_t i = 0; i < count; ++i) logits[i] *= shape.scale;
}

}  // namespace

void token_losses(const LinearWays& ways, In x, const Weight& weight,
                  std::span<const int32_t> targets, const LogitShape& shape,
                  std::span<double> losses) {
  if (weight.orientation != Orientation::out_in)
    throw Error(ErrorKind::unsupported, "an output embedding stored [in, out]");
  const Threads threads = ways.threads;
  const auto rows = static_cast<int64_t>(targets.size());
  const int64_t step = std::min(slab_rows(weight), kVocabularySlab);
  const FloatBuffer logits(rows * std::min(step, weight.out));
  const float* values = dense(x);
  RunningLosses running(targets, threads);
  std::optional<Int8Activations> codes;
  if (ways.in_8_bits(weight)) codes.emplace(values, rows, weight.in, *ways.int8_threshold, threads);
  for (int64_t begin = 0; begin < weight.out; begin += step) {
    const int64_t count = std::min(step, weight.out - begin);
    if (codes) {
      int8_product(*codes, {weight, begin, begin + count}, logits.data(), count, false, threads);
    } else {
      matmul({rows, count, weight.in}, {values, weight.in},
             {slab(weight, begin, begin + count, threads), weight.in, true}, {logits.data(), count},
             threads);
    }
    parallel_ranges(threads, rows * count, kElementGrain, [&](int64_t first, int64_t last) {
      shape_logits(logits.data() + first, last - first, shape);
    });
    running.add(logits.data(), begin, count);
  }
  running.finish(losses);
}

}  // namespace qwb
