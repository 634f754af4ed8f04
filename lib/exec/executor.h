// The operations that inference and calibration are made of, behind one interface: a device, its
// memory, and what it computes. A plain reference (f64 sums) and the fast CPU are two; the same
// contracts hold for any other. Above lib/model an Executor is only handed on.
//
// All activations are f32, row-major, one row per token. Operands lie in the executor's memory
// (allocate()) or, where the device is the processor, in the host's; they are dense unless said
// otherwise. Weights, tokens and results that are numbers for the host lie in the host's memory.
// Shapes are the caller's promise; weights have passed check_weight. Results of one executor do not
// depend on the number of threads, and operations may run side by side.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/base/threads.h"
#include "lib/codec/weight.h"
#include "lib/tensor/matrix.h"

namespace qwb {

class CalibrationOps;
class TrainingOps;

// What act(x) means: silu x * sigmoid(x) · gelu_tanh 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715
// x^3))) · gelu_erf 0.5 x (1 + erf(x / sqrt 2)) · quick_gelu x * sigmoid(1.702 x) · relu max(x, 0).
enum class Activation { silu, gelu_tanh, gelu_erf, quick_gelu, relu };

// How the operands of a product of many rows are held; sums are f32 either way.
enum class Products { f32, bf16 };

enum class Accumulate { no, yes };

struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads; query head h reads kv head h / (heads / kv_heads)
  int64_t head_dim = 0;
  int64_t window = 0;  // keys a query sees, itself included; 0 = all before it
  float scale = 1;     // on q k^T
  float soft_cap = 0;  // scaled scores become cap tanh(score / cap); 0: none
  // ALiBi, of each head, in the host's memory: a scaled score grows by slope * (key - query), the
  // positions' distance; empty: none.
  std::span<const float> slopes = {};
};

// Which values of a head are turned together: x_k and x_{k+n}, or x_{2k} and x_{2k+1}, k < n.
enum class RotaryPairs { halves, neighbours };

// What becomes of the products with the output embedding: times scale, then cap tanh(x / cap); a
// cap of 0: none.
struct LogitShape {
  float scale = 1;
  float cap = 0;
};

// How two rows of logits differ as distributions.
struct RowDivergence {
  double kl = 0;                         // KL(softmax base || softmax other), nats
  double base_loss = 0, other_loss = 0;  // -log softmax[target]
  int64_t base_top = 0, other_top = 0;   // the lowest index of a largest logit
  bool finite = true;  // false: a NaN or infinite logit; the rest then means nothing
};

// Whether a weight is multiplied so often that it pays to keep what products make of it.
enum class Reuse { seldom, often };

// A weight as an executor's products take it: Executor::prepare(). Cheap to copy. The bytes of the
// stored weight must outlive it.
class Prepared {
 public:
  // What a device keeps besides the stored weight.
  struct Extra {
    virtual ~Extra() = default;
  };
  Prepared() = default;
  explicit Prepared(Weight stored, std::shared_ptr<const Extra> extra = nullptr)
      : stored_(std::move(stored)), extra_(std::move(extra)) {}
  const Weight& stored() const { return stored_; }
  const Extra* extra() const { return extra_.get(); }

 private:
  Weight stored_;
  std::shared_ptr<const Extra> extra_;
};

// Rows of activations of several sequences, one behind the other. What becomes of a sequence's rows
// has the same bits whatever other sequences stand beside it: an executor multiplies pieces
// together only where that changes no sum.
struct Rows {
  In values;
  std::span<const int64_t> pieces = {};  // rows of each sequence; empty: all are of one

  Rows(In all) : values(all) {}
  Rows(const Out& all) : values(all) {}
  Rows(const Matrix& all) : values(all) {}
  Rows(In all, std::span<const int64_t> parts) : values(all), pieces(parts) {}
};

// x W^T + bias; no bias if that is empty, else [1, out].
struct Affine {
  const Prepared& weight;
  In bias = {};
};

class Executor {
 public:
  explicit Executor(Threads threads, const Device* device = nullptr);
  virtual ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  // What it was made for: its operations run on so many threads of the host.
  Threads threads() const { return threads_; }
  // Names everything that bits depend on: "cpu-AVX3-bf16".
  virtual std::string identity() const = 0;
  virtual Products products() const { return Products::f32; }

  // Its memory, null: the host's.
  const Device* device() const { return device_; }
  Matrix allocate(int64_t rows, int64_t columns, MemoryKind kind = MemoryKind::activations) const {
    return {rows, columns, kind, device_};
  }
  // to = from, of equal size. Either may lie in the host's memory; rows may be apart. They do not
  // overlap.
  virtual void copy(In from, Out to) const = 0;
  // Operations may still be at work when their functions have returned: waits until none is. What
  // gives numbers to the host waits by itself.
  virtual void finish() const {}
  // The same from and to the host, all rows one behind the other.
  Matrix upload(std::span<const float> values, MemoryKind kind) const;  // [1, values]
  std::vector<float> download(In values) const;

  // Makes a weight ready for the products below.
  virtual Prepared prepare(const Weight& weight, Reuse reuse = Reuse::seldom) const = 0;
  // The same of dense f32 values [out, in] that lie in the executor's memory, as they stand there:
  // when they change, so do its products. They must outlive it.
  virtual Prepared prepare_values(In values) const;
  // A weight with its values rounded to bf16, as products() of that kind take it, in memory of the
  // executor's own: the stored bytes may go. Nothing where prepare() serves as well.
  virtual std::optional<Prepared> prepare_rounded(const Weight& weight) const;
  // y [rows, out] = x [rows, in] W^T + bias, or y += that.
  virtual void linear(const Rows& x, const Affine& module, Out y,
                      Accumulate accumulate = Accumulate::no) const = 0;
  // The same, without adding, for several modules that read one input.
  struct Output {
    Affine module;
    Out y;
  };
  virtual void linears(const Rows& x, std::span<const Output> outputs) const;
  // y [rows, out] = act(gate(x)) * up(x), elementwise; act(up(x)) if gate is null.
  virtual void gated(const Rows& x, const Affine* gate, const Affine& up, Activation activation,
                     Out y) const;

  // y [ids, columns] = the rows of the stored matrix (out_in: rows are output channels) with these
  // numbers, each < rows.
  virtual void look_up(const Prepared& weight, std::span<const int32_t> ids, Out y) const = 0;
  // y[i] = x[rows[i]]
  virtual void gather(In x, std::span<const int64_t> rows, Out y) const = 0;
  // y[rows[i]] += factors[i] * x[i], in ascending i.
  virtual void scatter_add(In x, std::span<const int64_t> rows, std::span<const float> factors,
                           Out y) const = 0;

  // y = x * rsqrt(mean(x^2) + eps) * gain, per row; gain [1, columns]. In place if y is x.
  virtual void rms_norm(In x, In gain, double eps, Out y) const = 0;
  // y = (x - mean) * rsqrt(variance + eps) * gain + bias, per row. In place if y is x.
  virtual void layer_norm(In x, In gain, In bias, double eps, Out y) const = 0;
  // Rotates the first 2n values of every head of every token in place; the rest of a head stays.
  // x [tokens, heads * head_dim], rows may be apart; cosine, sine: [tokens, n], 2n <= head_dim.
  virtual void rotate(Out x, int64_t head_dim, In cosine, In sine,
                      RotaryPairs pairs = RotaryPairs::halves) const = 0;
  // y [tokens, heads * head_dim] = causal softmax attention of the last `tokens` positions of a
  // sequence. keys, values: [positions, kv_heads * head_dim]. Rows of queries may be apart.
  virtual void attention(In queries, In keys, In values, const AttentionShape& shape,
                         Out y) const = 0;

  // Elementwise: x = act(x), x = act(x) * up, x += y, x = value, x *= factor, x = cap tanh(x /
  // cap).
  virtual void activate(Activation activation, Out x) const = 0;
  virtual void activate(Activation activation, Out x, In up) const = 0;
  virtual void add(Out x, In y) const = 0;
  virtual void fill(Out x, float value) const = 0;
  virtual void scale(Out x, float factor) const = 0;
  virtual void soft_cap(Out x, float cap) const;

  // losses[r] = -log softmax(shape of (x[r] W^T))[targets[r]]. The logits are never held whole. A
  // row with a NaN or infinite logit gives NaN.
  virtual void losses(In x, const Prepared& weight, std::span<const int32_t> targets,
                      const LogitShape& shape, std::span<double> losses) const = 0;
  // differences[r]: of row r of the two; sums in f64.
  virtual void divergence(In base, In other, std::span<const int32_t> targets,
                          std::span<RowDivergence> differences) const = 0;
  // False if any value is NaN or infinite.
  virtual bool all_finite(In x) const = 0;
  // The same for later: mark [1, 1] becomes 1 for all finite, else 0.
  virtual void mark_finite(In x, Out mark) const;

  // The operations of calibration (lib/exec/calibration.h). Throws unsupported where a device has
  // none.
  virtual const CalibrationOps& calibration() const;
  // The operations of training (lib/exec/training.h): plain loops on a device without its own.
  virtual const TrainingOps& training() const { return *plain_training_; }

 private:
  Threads threads_;
  const Device* device_;
  std::unique_ptr<const TrainingOps> plain_training_;
};

enum class ExecutorKind {
  reference,  // plain loops in the calling thread, f32 values with f64 sums
  fast,       // matrix products by oneDNN on fixed tiles, everything else by Highway
  bf16,       // the same with the operands of products of many rows rounded to bf16
};
std::unique_ptr<Executor> make_executor(ExecutorKind kind, Threads threads);
// The fast executor with LLM.int8's forward pass: products with weights in int8 rows take their
// activations in 8 bits too, but for outlier columns (cpu/int8_product.h); all else as before.
// Throws usage for a threshold that is negative or not finite.
std::unique_ptr<Executor> make_int8_executor(float threshold, Threads threads);
// For calibration, whose noise is far above that rounding: bf16 where matrix units make it fast,
// else the fast executor.
ExecutorKind calibration_executor();

}  // namespace qwb
