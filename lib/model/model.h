// A decoder-only transformer that runs: token ids in, hidden states and logits out. Weights stay in their stored form (mapped, quantized)
// and are dequantized on the way into the matrix products; arithmetic is f32.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lib/kernels/backend.h"
#include "lib/model/config.h"
#include "lib/tensor/source.h"

namespace qwb {

// Keys and values of the tokens seen so far, for one sequence.
class KvCache {
 public:
  KvCache(const ModelConfig& config, int64_t capacity);
  int64_t length() const { return length_; }
  int64_t capacity() const { return capacity_; }
  int64_t bytes() const;
  // Forgets everything after the first `length` tokens.
  void truncate(int64_t length);

 private:
  friend class Model;
  friend struct BlockRunner;
  int64_t capacity_ = 0;
  int64_t length_ = 0;
  std::vector<FloatBuffer> keys_;    // per layer [capacity, kv_heads * head_dim]
  std::vector<FloatBuffer> values_;
};

class Model {
 public:
  // Finds and checks every tensor the architecture needs; reads none of the large ones. The source must outlive the model.
  // Throws not_found for a missing tensor, `failed` for a wrong shape, unsupported for an unknown architecture.
  static std::unique_ptr<Model> load(std::shared_ptr<const TensorSource> source, const Json& config, const std::string& where,
                                     const Backend& backend = fast_backend());
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  KvCache new_cache(int64_t capacity) const { return KvCache(config(), capacity); }

  // Appends `tokens` to the sequence in `cache` and writes their final hidden states (after the last norm), f32 [tokens, hidden].
  // Throws usage if the cache is full or a token is outside the vocabulary, `failed` naming the block if NaN or Inf appears.
  virtual void forward(std::span<const int32_t> tokens, KvCache& cache, float* hidden) const = 0;
  // logits f32 [rows, vocab] = hidden [rows, hidden] times the output embedding.
  virtual void logits(const float* hidden, int64_t rows, float* out) const = 0;
  // losses[r] = -log softmax(logits of row r)[targets[r]], in f64 sums; the logits are made in slices and never held whole.
  virtual void token_losses(const float* hidden, std::span<const int32_t> targets, double* losses) const = 0;
};

}  // namespace qwb
