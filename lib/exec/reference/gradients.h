// The formulas of training in f64, forward and backward, on matrices of the host: what the plain
// operations compute (lib/exec/training.h), and what finite differences check.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/exec/executor.h"

namespace qwb::plain {

// Rows one behind the other.
struct Doubles {
  int64_t rows = 0, columns = 0;
  std::vector<double> values;

  Doubles() = default;
  Doubles(int64_t row_count, int64_t column_count)
      : rows(row_count),
        columns(column_count),
        values(static_cast<size_t>(row_count * column_count)) {}
  double& operator()(int64_t r, int64_t c) { return values[static_cast<size_t>(r * columns + c)]; }
  double operator()(int64_t r, int64_t c) const {
    return values[static_cast<size_t>(r * columns + c)];
  }
};

// a b, where a or b may be transposed first.
enum class Turned { neither, left, right };
Doubles product(const Doubles& a, const Doubles& b, Turned turned = Turned::neither);

Doubles rms_norm(const Doubles& x, const std::vector<double>& gain, double eps);
// The gradient by x; dgain: its sum over rows is added there; null: not wanted.
Doubles rms_norm_back(const Doubles& x, const std::vector<double>& gain, double eps,
                      const Doubles& dy, std::vector<double>* dgain = nullptr);
Doubles layer_norm(const Doubles& x, const std::vector<double>& gain,
                   const std::vector<double>& bias, double eps);
Doubles layer_norm_back(const Doubles& x, const std::vector<double>& gain, double eps,
                        const Doubles& dy);
void layer_norm_gains_back(const Doubles& x, double eps, const Doubles& dy,
                           std::vector<double>& dgain, std::vector<double>& dbias);

// Of a whole sequence; sums [tokens, heads].
struct Attention {
  Doubles y, sums;
};
Attention attention(const Doubles& queries, const Doubles& keys, const Doubles& values,
                    const AttentionShape& shape);
struct AttentionBack {
  Doubles queries, keys, values;
};
AttentionBack attention_back(const Doubles& queries, const Doubles& keys, const Doubles& values,
                             const Attention& kept, const AttentionShape& shape, const Doubles& dy);

struct GatedBack {
  Doubles gate, up;
};
// up empty: y = act(gate).
Doubles gated(Activation activation, const Doubles& gate, const Doubles& up);
GatedBack gated_back(Activation activation, const Doubles& gate, const Doubles& up,
                     const Doubles& dy);

// -log softmax(shape of logits)[target], and in place of the logits its gradient by them.
double cross_entropy(std::span<double> logits, int32_t target, const LogitShape& shape);

}  // namespace qwb::plain
