// The operations of training with frozen weights beyond those of executor.h: gradients by inputs,
// of low-rank factors and of the loss, and the optimizer's step. Gradients are f32 like
// activations. Each function here is its plain loop with f64 sums on values that are downloaded and
// copied back, so that every device has it; a device's own class overrides what it computes itself.
//
// Operands are dense and lie on the executor's device, as executor.h says. Results do not depend on
// the number of threads. A sum over rows depends on which rows stand together by no more than
// rounding.
#pragma once

#include <cstdint>
#include <span>

#include "lib/exec/executor.h"

namespace qwb {

// One step of AdamW (arXiv 1711.05101), with g = gradient_scale * gradient:
//   m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2
//   x = x (1 - rate * decay) - rate * m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps)
struct AdamW {
  double rate = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0;
  int64_t step = 1;  // of this update, from 1 on
  double gradient_scale = 1;
};

// Moments of AdamW in 8 bits: codes of a dynamic map (dynamic_map.h) times the largest magnitude of
// each kMomentBlock values. A row of words, four codes in each, lowest byte first.
constexpr int64_t kMomentBlock = 256;
struct CodedMoments {
  Out first, second;                // [1, words]: ceil(values / 4)
  Out first_scales, second_scales;  // [1, blocks]: ceil(values / kMomentBlock)
};

// What attention() leaves for its gradient; sums [tokens, heads]: the logarithm of the sum of the
// exponentials of a query's shaped scores.
struct Attended {
  In queries, keys, values, y, sums;
};

class TrainingOps {
 public:
  explicit TrainingOps(const Executor& executor) : executor_(executor) {}
  virtual ~TrainingOps() = default;
  TrainingOps(const TrainingOps&) = delete;
  TrainingOps& operator=(const TrainingOps&) = delete;

  // dx [rows, in] = dy [rows, out] W, or dx += that: the gradient of linear() by its input.
  virtual void linear_back(In dy, const Prepared& weight, Out dx,
                           Accumulate accumulate = Accumulate::no) const;
  // Products with f32 matrices. y [rows, out] = factor x [rows, in] m^T for m [out, in];
  // y [rows, in] = factor x [rows, out] m; or y += that.
  virtual void multiply_transposed(In x, In m, float factor, Out y,
                                   Accumulate accumulate = Accumulate::no) const;
  virtual void multiply(In x, In m, float factor, Out y,
                        Accumulate accumulate = Accumulate::no) const;
  // m [a.columns, b.columns] += factor a^T b: gradients of low-rank factors, or, with a = dy and b
  // = x, of a weight [out, in].
  virtual void add_outer(In a, In b, float factor, Out m) const;

  // dx = the gradient of rms_norm and layer_norm by x, from that by their result, or dx += that; in
  // place if dx is dy. dgain, dbias [1, columns] += the gradients by them; empty: not wanted.
  virtual void rms_norm_back(In x, In gain, double eps, In dy, Out dx, Accumulate accumulate,
                             Out dgain = {}) const;
  virtual void layer_norm_back(In x, In gain, double eps, In dy, Out dx,
                               Accumulate accumulate) const;
  virtual void layer_norm_gains_back(In x, double eps, In dy, Out dgain, Out dbias) const;

  // y and sums of causal softmax attention of a whole sequence: Executor::attention without a past.
  virtual void attention(In queries, In keys, In values, const AttentionShape& shape, Out y,
                         Out sums) const;
  // dq, dk, dv = its gradients by queries, keys and values, from dy.
  virtual void attention_back(const Attended& kept, const AttentionShape& shape, In dy, Out dq,
                              Out dk, Out dv) const;

  // Of y = act(gate) * up: dgate = dy * up * act'(gate) and dup = dy * act(gate); of y = act(gate),
  // up and dup empty: dgate. In place if dgate is dy.
  virtual void activate_back(Activation activation, In gate, In up, In dy, Out dgate,
                             Out dup) const;

  // losses[r] as Executor::losses gives them, and dx [rows, in] = the gradient of sum over r of
  // factors[r] * losses[r] by x. Logits are held for some rows at a time.
  virtual void losses_back(In x, const Prepared& weight, std::span<const int32_t> targets,
                           std::span<const float> factors, const LogitShape& shape,
                           std::span<double> losses, Out dx) const;

  // y = x / (1 - probability) where a hash of keys[row] and the column says so, else 0: each value
  // is dropped with that probability. In place if y is x.
  virtual void drop_out(In x, std::span<const uint64_t> keys, double probability, Out y) const;

  // One step; values, gradient, first and second moments of one size.
  virtual void adamw(Out values, In gradient, Out first, Out second, const AdamW& step) const;
  virtual void adamw(Out values, In gradient, const CodedMoments& moments, const AdamW& step) const;
  // In f64, in an order that depends on the size alone.
  virtual double sum_of_squares(In x) const;

 protected:
  const Executor& executor() const { return executor_; }

 private:
  const Executor& executor_;
};

}  // namespace qwb
