// The operations a transformer is made of, behind one interface: a plain reference (f64 sums) and a
// fast CPU path; the same contracts hold for any other device. All activations are f32, row-major,
// one row per token. Results of one backend do not depend on the number of threads. Shapes are the
// caller's promise; weights have passed check_weight.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "lib/base/threads.h"
#include "lib/codec/weight.h"
#include "lib/kernels/matmul.h"

namespace qwb {

// What act(x) means: silu x * sigmoid(x) · gelu_tanh 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715
// x^3))) · gelu_erf 0.5 x (1 + erf(x / sqrt 2)) · quick_gelu x * sigmoid(1.702 x) · relu max(x, 0).
enum class Activation { silu, gelu_tanh, gelu_erf, quick_gelu, relu };

struct AttentionShape {
  int64_t tokens = 0;  // queries: the last `tokens` positions of the sequence
  int64_t past = 0;    // positions before them; keys and values hold past + tokens rows
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads; query head h reads kv head h / (heads / kv_heads)
  int64_t head_dim = 0;
  int64_t query_stride = 0;  // floats between the rows of two tokens in `queries`
  int64_t window = 0;        // keys a query sees, itself included; 0 = all before it
  float scale = 1;           // on q k^T
  float soft_cap = 0;        // scaled scores become cap tanh(score / cap); 0: none
};

// Weights of more values are packed anew for every product: kept, they would take much memory.
constexpr int64_t kMostPacked = 4 << 20;

class Backend {
 public:
  explicit Backend(Threads threads) : threads_(threads) {}
  virtual ~Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  // What it was made for: its operations run on so many threads.
  Threads threads() const { return threads_; }
  virtual std::string name() const = 0;
  // How the operands of products of many tokens are held.
  virtual Products products() const { return Products::f32; }

  // y [tokens, out] = x [tokens, in] W^T (+ bias [out] unless null), or y += that.
  virtual void linear(const float* x, int64_t tokens, const Weight& weight, const float* bias,
                      float* y, bool add) const = 0;
  // Keeps with a weight what products of many tokens would make of it each time. The memory that it
  // returns must outlive the weight's use; empty: there is nothing to keep, or the weight has more
  // than kMostPacked values.
  virtual AlignedBuffer pack(Weight& /*weight*/) const { return {}; }
  // The same as linear(), without adding, for several modules that read one input.
  struct Output {
    const Weight* weight;
    const float* bias;  // or null
    float* y;
  };
  virtual void linears(const float* x, int64_t tokens, std::span<const Output> outputs) const {
    for (const Output& o : outputs) linear(x, tokens, *o.weight, o.bias, o.y, false);
  }
  // out [ids, columns] = the rows of the stored matrix (out_in: rows are output channels) with
  // these numbers, each < rows.
  virtual void gather_rows(const Weight& weight, std::span<const int32_t> ids,
                           float* out) const = 0;
  // y = x * rsqrt(mean(x^2) + eps) * gain, per row of n.
  virtual void rms_norm(const float* x, int64_t rows, int64_t n, const float* gain, double eps,
                        float* y) const = 0;
  // y = (x - mean) * rsqrt(variance + eps) * gain + bias, per row of n.
  virtual void layer_norm(const float* x, int64_t rows, int64_t n, const float* gain,
                          const float* bias, double eps, float* y) const = 0;
  // Rotates every head of every token in place, the halves of a head being the pairs: x_k,
  // x_{k+d/2} with d = head_dim. cosine, sine: [tokens, head_dim / 2]. stride: floats between two
  // tokens.
  virtual void rotate(float* x, int64_t tokens, int64_t heads, int64_t head_dim, int64_t stride,
                      const float* cosine, const float* sine) const = 0;
  // out [tokens, heads * head_dim] = causal softmax attention. keys, values: [past + tokens,
  // kv_heads * head_dim].
  virtual void attention(const float* queries, const float* keys, const float* values,
                         const AttentionShape& shape, float* out) const = 0;
  // gate = act(gate) * up, elementwise; or x = act(x) when up is null.
  virtual void activate(Activation activation, float* gate, const float* up,
                        int64_t count) const = 0;
  // x += y
  virtual void add(float* x, const float* y, int64_t count) const = 0;
  // x = cap tanh(x / cap)
  virtual void soft_cap(float* x, int64_t count, float cap) const = 0;
  // losses[r] = -log softmax(x[r] W^T)[targets[r]], the logits soft-capped first unless cap is 0.
  // The logits are never held whole. A row with a NaN or infinite logit gives NaN.
  virtual void losses(const float* x, int64_t rows, const Weight& weight,
                      std::span<const int32_t> targets, float cap, double* losses) const = 0;
  // False if any value is NaN or infinite.
  virtual bool all_finite(const float* x, int64_t count) const = 0;

 private:
  Threads threads_;
};

enum class BackendKind {
  reference,  // plain loops in the calling thread, f32 values with f64 sums
  fast,       // matrix products by oneDNN on fixed tiles, everything else by Highway
  bf16,       // the same with the operands of products of many tokens rounded to bf16
};
std::unique_ptr<Backend> make_backend(BackendKind kind, Threads threads);
// The fast backend with LLM.int8's forward pass: products with weights in int8 rows take their
// activations in 8 bits too, but for outlier columns (int8_product.h); all else as before. Throws
// usage for a threshold that is negative or not finite.
std::unique_ptr<Backend> make_int8_backend(float threshold, Threads threads);
// For calibration, whose noise is far above that rounding: bf16 where matrix units make it fast,
// else the fast backend.
BackendKind calibration_backend();

}  // namespace qwb
