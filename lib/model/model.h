// A decoder-only transformer that runs: token ids in, hidden states and logits out. Weights stay in
// their stored form (mapped, quantized) and are dequantized on the way into the matrix products;
// arithmetic is f32.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/stop.h"
#include "lib/codec/source.h"
#include "lib/exec/executor.h"
#include "lib/model/architecture.h"
#include "lib/model/config.h"
#include "lib/model/weight_bytes.h"

namespace qwb {

class Block;
class LowRank;
struct Norm;
struct LayerCache;

// Keys and values of the tokens seen so far, for one sequence. Memory is taken at once; pages are
// touched as tokens come.
class KvCache {
 public:
  KvCache(const Executor& executor, const ModelConfig& config, int64_t capacity);
  int64_t length() const { return length_; }
  int64_t capacity() const { return capacity_; }
  int64_t bytes() const;
  // Forgets everything after the first `length` tokens.
  void truncate(int64_t length);
  // Makes room for `capacity` tokens and keeps what it holds; never shrinks.
  void grow(const Executor& executor, int64_t capacity);
  void advance(int64_t tokens) { length_ += tokens; }
  LayerCache layer(int64_t index);

 private:
  int64_t capacity_ = 0;
  int64_t length_ = 0;
  std::vector<Matrix> keys_;  // per layer [capacity, kv_heads * head_dim]
  std::vector<Matrix> values_;
};

// Bytes of such a cache: 2 x layers x capacity x kv_heads x head_dim x 4.
int64_t kv_cache_bytes(const ModelConfig& config, int64_t capacity);

// A sequence in a batch: its next tokens and what it holds so far.
struct Sequence {
  std::span<const int32_t> tokens;
  KvCache* cache;
  StopToken stop = {};
};

// What a model is loaded for: to run whole, or for others to make and run its blocks one at a time
// (calibration). A device then holds none of them for the model; forward() must not be called.
enum class ModelUse { whole, single_blocks };

// Can be shared by threads: nothing of it changes while it runs.
class Model {
 public:
  ~Model();
  // Finds and checks every tensor the architecture needs; reads none of the large ones. Keeps the
  // source and the executor, whose threads are the model's; null: the fast one on all processors.
  // Throws not_found for a missing tensor, `failed` for a wrong shape, unsupported for an unknown
  // architecture.
  static std::unique_ptr<Model> load(std::shared_ptr<const TensorSource> source, const Json& config,
                                     const std::string& where,
                                     std::shared_ptr<const Executor> executor = nullptr,
                                     ModelUse use = ModelUse::whole);

  // The output of a linear module of a block, or of the output embedding by its tensor's name, goes
  // on with this added to it. Before the model is shared. Throws not_found for no such module,
  // `failed` for another shape.
  void attach(const std::string& module, std::shared_ptr<const LowRank> addition);

  const ModelConfig& config() const { return config_; }
  const ModelSpec& spec() const { return spec_; }
  const TensorSource& source() const { return *source_; }
  const Executor& executor() const { return *executor_; }
  // Of all weights as they were loaded; the memory ledger holds the same while the model lives.
  // Throws usage or unsupported where the model has no place for a text of so many tokens: beyond
  // learned positions, or where longrope takes other frequencies.
  void check_length(int64_t tokens) const;
  const WeightBytes& weight_bytes() const { return weight_bytes_; }
  // Linear modules stored as int8 rows, the output embedding included.
  int64_t int8_modules() const;
  KvCache new_cache(int64_t capacity) const { return KvCache(*executor_, config_, capacity); }

  // Appends `tokens` to the sequence in `cache` and writes their final hidden states (after the
  // last norm), f32 [tokens, hidden]. Throws usage if the cache is full, a token is outside the
  // vocabulary or a position beyond learned ones; `failed` naming the block if NaN or Inf appears.
  // Looks at `stop` between blocks. On an exception the cache is as before.
  void forward(std::span<const int32_t> tokens, KvCache& cache, Out hidden,
               const StopToken& stop = {}) const;
  // The same for several sequences in one step, hidden [tokens of all, hidden] in their order. The
  // bits of each are those that it has alone, whatever others are in the batch. A sequence that
  // fails or whose stop is requested ends alone: its error is returned at its place, its cache is
  // as before and its hidden states mean nothing. Throws usage for a cache that is there twice.
  std::vector<std::optional<Error>> forward(std::span<const Sequence> sequences, Out hidden) const;
  // logits f32 [rows, vocab] = hidden [rows, hidden] times the output embedding. Rows of several
  // sequences: as pieces.
  void logits(const Rows& hidden, Out logits) const;
  // losses[r] = -log softmax(logits of row r)[targets[r]], in f64 sums; the logits are made in
  // slices and never held whole.
  void token_losses(In hidden, std::span<const int32_t> targets, std::span<double> losses) const;

  // x [tokens, hidden] = embeddings of tokens at positions first_position... (what enters block 0).
  void embed(std::span<const int32_t> tokens, int64_t first_position, Out x) const;
  // The same from another token embedding [vocab, hidden].
  void embed(std::span<const int32_t> tokens, int64_t first_position, const Prepared& embedding,
             Out x) const;
  // hidden [tokens, hidden] = the final norm of x, what leaves the last block: the input of the
  // output embedding.
  void final_norm(In x, Out hidden) const;

 private:
  Model(std::shared_ptr<const TensorSource> source, std::shared_ptr<const Executor> executor);
  void count_weights();
  void losses_of_logits(In hidden, std::span<const int32_t> targets,
                        std::span<double> losses) const;
  void check_tokens(std::span<const int32_t> tokens, const KvCache& cache) const;
  friend class BatchStep;

  std::shared_ptr<const TensorSource> source_;
  std::shared_ptr<const Executor> executor_;
  ModelConfig config_;
  ModelSpec spec_;
  Prepared embedding_;
  Prepared positions_;  // used if spec_.positions is not empty
  Prepared output_;
  std::vector<std::shared_ptr<const LowRank>> output_additions_;
  std::unique_ptr<const Norm> final_norm_, embedding_norm_;
  Matrix output_bias_;                       // [1, vocab]; used if spec_.output_bias is not empty
  std::shared_ptr<const Executor> listing_;  // of blocks that do not run; else null
  std::vector<Block> blocks_;
  WeightBytes weight_bytes_;
  MemoryClaim mapped_claim_;  // what is copied tells the ledger itself
};

}  // namespace qwb
