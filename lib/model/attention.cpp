#include "lib/model/attention.h"

#include <algorithm>

namespace qwb {

Attention::Attention(const ModelConfig& config, const AttentionSpec& spec,
                     const TensorSource& source)
    : q_norm_(spec.q_norm, config.head_dim, source),
      k_norm_(spec.k_norm, config.head_dim, source),
      output_(spec.output, source) {
  for (const LinearSpec& linear : spec.qkv) qkv_.emplace_back(linear, source);
}

std::vector<Linear*> Attention::linears() {
  std::vector<Linear*> all;
  for (Linear& linear : qkv_) all.push_back(&linear);
  all.push_back(&output_);
  return all;
}

// queries [tokens, the outputs of q, or of the fused module], keys and values [tokens, kv_heads *
// head_dim].
void Attention::project(const LayerContext& layer, const float* h, int64_t tokens, float* queries,
                        float* keys, float* values) const {
  const ModelConfig& c = layer.config;
  if (qkv_.size() > 1) {
    apply_linears(layer.backend, {{&qkv_[0], queries}, {&qkv_[1], keys}, {&qkv_[2], values}}, h,
                  tokens);
    if (!q_norm_.empty()) q_norm_.apply(layer, queries, tokens * c.heads, queries);
    if (!k_norm_.empty()) k_norm_.apply(layer, keys, tokens * c.kv_heads, keys);
    return;
  }
  const int64_t q_size = c.heads * c.head_dim, kv_size = c.kv_heads * c.head_dim;
  qkv_[0].apply(layer.backend, h, tokens, queries);
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = queries + t * (q_size + 2 * kv_size) + q_size;
    std::copy_n(row, kv_size, keys + t * kv_size);
    std::copy_n(row + kv_size, kv_size, values + t * kv_size);
  }
}

void Attention::inner(const LayerContext& layer, const float* h, const SequencePart& part,
                      float* attended) const {
  const ModelConfig& c = layer.config;
  const int64_t kv_size = c.kv_heads * c.head_dim, stride = qkv_[0].spec.out;
  const LayerCache& cache = part.cache;
  float* keys = cache.keys + cache.past * kv_size;
  float* values = cache.values + cache.past * kv_size;
  FloatBuffer queries(part.tokens * stride, MemoryKind::activations);
  project(layer, h, part.tokens, queries.data(), keys, values);
  if (part.rotary.cosine.size() > 0) {
    layer.backend.rotate(queries.data(), part.tokens, c.heads, c.head_dim, stride,
                         part.rotary.cosine.data(), part.rotary.sine.data());
    layer.backend.rotate(keys, part.tokens, c.kv_heads, c.head_dim, kv_size,
                         part.rotary.cosine.data(), part.rotary.sine.data());
  }
  const auto index = static_cast<size_t>(layer.index);
  AttentionShape shape;
  shape.tokens = part.tokens;
  shape.past = cache.past;
  shape.heads = c.heads;
  shape.kv_heads = c.kv_heads;
  shape.head_dim = c.head_dim;
  shape.query_stride = stride;
  shape.window = c.window[index];
  shape.scale = c.attention_scale * (c.layer_scale.empty() ? 1.0f : c.layer_scale[index]);
  shape.soft_cap = c.attention_soft_cap;
  layer.backend.attention(queries.data(), cache.keys, cache.values, shape, attended);
}

}  // namespace qwb
