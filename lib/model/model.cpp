#include "lib/model/model.h"

#include <algorithm>
#include <numeric>

#include "lib/base/error.h"
#include "lib/codec/int8_rows.h"

namespace qwb {
namespace {

// Tokens that go through the blocks together: bounds the activations' memory and fixes the shapes
// of the products.
constexpr int64_t kChunk = 1024;

}  // namespace

KvCache::KvCache(const ModelConfig& config, int64_t capacity) : capacity_(capacity) {
  if (capacity < 1) throw Error(ErrorKind::usage, "a sequence needs room for at least one token");
  const int64_t size = checked_mul(capacity, config.kv_heads * config.head_dim, "KV cache");
  for (int64_t i = 0; i < config.layers; ++i) {
    keys_.emplace_back(size, MemoryKind::kv_cache);
    values_.emplace_back(size, MemoryKind::kv_cache);
  }
}

int64_t KvCache::bytes() const {
  int64_t total = 0;
  for (const FloatBuffer& buffer : keys_)
    total += 2 * buffer.size() * static_cast<int64_t>(sizeof(float));
  return total;
}

int64_t kv_cache_bytes(const ModelConfig& config, int64_t capacity) {
  return 2 * config.layers * capacity * config.kv_heads * config.head_dim *
         static_cast<int64_t>(sizeof(float));
}

void KvCache::truncate(int64_t length) {
  length_ = std::clamp<int64_t>(length, 0, length_);
}

LayerCache KvCache::layer(int64_t index) {
  return {keys_[static_cast<size_t>(index)].data(), values_[static_cast<size_t>(index)].data(),
          length_};
}

std::unique_ptr<Model> Model::load(std::shared_ptr<const TensorSource> source, const Json& config,
                                   const std::string& where,
                                   std::shared_ptr<const Backend> backend) {
  if (backend == nullptr) backend = make_backend(BackendKind::fast, Threads());
  std::unique_ptr<Model> model(new Model(std::move(source), std::move(backend)));
  const Architecture& architecture =
      find_architecture(json_string(config, "model_type", where), where);
  model->config_ = architecture.parse(config, where);
  const ModelConfig& c = model->config_;
  const TensorSource& tensors = *model->source_;
  model->spec_ = architecture.spec(c, tensors);
  const ModelSpec& spec = model->spec_;
  model->embedding_ = find_weight(tensors, spec.embedding, c.vocab, c.hidden, Orientation::out_in);
  if (!spec.positions.empty())
    model->positions_ =
        find_weight(tensors, spec.positions, c.max_positions, c.hidden, Orientation::out_in);
  model->output_ =
      find_weight(tensors, spec.output_embedding, c.vocab, c.hidden, Orientation::out_in);
  model->final_norm_.emplace(spec.final_norm, c.hidden, tensors);
  for (int64_t i = 0; i < c.layers; ++i) {
    model->blocks_.emplace_back(c, spec.blocks[static_cast<size_t>(i)], i, tensors,
                                *model->backend_);
  }
  model->count_weights();
  return model;
}

void Model::count_weights() {
  WeightCount count;
  for (const Weight* weight : {&embedding_, &output_}) count.add(*weight);
  if (!spec_.positions.empty()) count.add(positions_);
  count.add_floats(final_norm_->gain.size() + final_norm_->bias.size());
  for (const Block& block : blocks_) block.count_weights(count);
  weight_bytes_ = count.bytes();
  mapped_claim_ = MemoryClaim(MemoryKind::mapped_weights, weight_bytes_.mapped);
  vectors_claim_ = MemoryClaim(MemoryKind::weights, weight_bytes_.vectors);
}

int64_t Model::int8_modules() const {
  const auto is_int8 = [](const Weight& weight) { return weight.as<Int8Rows>() != nullptr; };
  int64_t count = is_int8(output_) ? 1 : 0;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    for (const LinearSpec& linear : block_linears(spec_.blocks[i]))
      count += is_int8(blocks_[i].weight(linear.module));
  }
  return count;
}

void Model::check_tokens(std::span<const int32_t> tokens, const KvCache& cache) const {
  const auto count = static_cast<int64_t>(tokens.size());
  if (cache.length() + count > cache.capacity()) {
    throw Error(ErrorKind::usage, "the sequence of " + std::to_string(cache.length() + count) +
                                      " tokens does not fit the context of " +
                                      std::to_string(cache.capacity()));
  }
  if (!spec_.positions.empty() && cache.length() + count > config_.max_positions) {
    throw Error(ErrorKind::usage,
                "the model knows only " + std::to_string(config_.max_positions) + " positions");
  }
  for (const int32_t token : tokens) {
    if (token < 0 || token >= config_.vocab) {
      throw Error(ErrorKind::usage,
                  "token " + std::to_string(token) + " is outside the vocabulary of " +
                      std::to_string(config_.vocab),
                  {}, "the tokenizer does not belong to this model");
    }
  }
}

void Model::embed(std::span<const int32_t> tokens, int64_t first_position, float* x) const {
  embed(tokens, first_position, embedding_, x);
}

void Model::embed(std::span<const int32_t> tokens, int64_t first_position, const Weight& embedding,
                  float* x) const {
  const auto count = static_cast<int64_t>(tokens.size());
  backend_->gather_rows(embedding, tokens, x);
  if (config_.embedding_scale != 1) {
    for (int64_t i = 0; i < count * config_.hidden; ++i) x[i] *= config_.embedding_scale;
  }
  if (spec_.positions.empty()) return;
  std::vector<int32_t> places(tokens.size());
  std::iota(places.begin(), places.end(), static_cast<int32_t>(first_position));
  FloatBuffer learned(count * config_.hidden, MemoryKind::activations);
  backend_->gather_rows(positions_, places, learned.data());
  backend_->add(x, learned.data(), count * config_.hidden);
}

void Model::forward(std::span<const int32_t> tokens, KvCache& cache, float* hidden,
                    const StopToken& stop) const {
  check_tokens(tokens, cache);
  const int64_t before = cache.length();
  try {
    for (int64_t begin = 0; begin < static_cast<int64_t>(tokens.size()); begin += kChunk) {
      const auto count =
          std::min<size_t>(static_cast<size_t>(kChunk), tokens.size() - static_cast<size_t>(begin));
      forward_chunk(tokens.subspan(static_cast<size_t>(begin), count), cache,
                    hidden + begin * config_.hidden, stop);
    }
  } catch (...) {
    cache.truncate(before);
    throw;
  }
}

void Model::forward_chunk(std::span<const int32_t> tokens, KvCache& cache, float* hidden,
                          const StopToken& stop) const {
  const auto count = static_cast<int64_t>(tokens.size());
  FloatBuffer x(count * config_.hidden, MemoryKind::activations);
  embed(tokens, cache.length(), x.data());
  const RotaryTable rotary(config_.rope, cache.length(), count);
  for (int64_t i = 0; i < config_.layers; ++i) {
    stop.check();
    blocks_[static_cast<size_t>(i)].forward(x.data(), {count, rotary, cache.layer(i)});
    if (!backend_->all_finite(x.data(), count * config_.hidden)) {
      throw Error(ErrorKind::failed, "NaN or Inf in the output of block " + std::to_string(i), {},
                  "the weights are damaged or overflow in this precision");
    }
  }
  cache.advance(count);
  final_norm(x.data(), count, hidden);
}

void Model::final_norm(const float* x, int64_t tokens, float* hidden) const {
  final_norm_->apply({config_, *backend_, config_.layers}, x, tokens, hidden);
}

void Model::logits(const float* hidden, int64_t rows, float* out) const {
  backend_->linear(hidden, rows, output_, nullptr, out, false);
  if (config_.logit_soft_cap != 0)
    backend_->soft_cap(out, rows * config_.vocab, config_.logit_soft_cap);
}

void Model::token_losses(const float* hidden, std::span<const int32_t> targets,
                         double* losses) const {
  backend_->losses(hidden, static_cast<int64_t>(targets.size()), output_, targets,
                   config_.logit_soft_cap, losses);
}

}  // namespace qwb
