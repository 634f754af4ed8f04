#include "lib/model/attention.h"

#include <array>

namespace qwb {

Batch::Batch(std::vector<SequencePart> parts) : parts_(std::move(parts)) {
  if (parts_.size() < 2) return;
  for (const SequencePart& part : parts_) pieces_.push_back(part.tokens);
}

Attention::Attention(const ModelConfig& config, const AttentionSpec& spec,
                     const TensorSource& source, const Executor& executor)
    : q_norm_(spec.q_norm, config.head_dim * (spec.norms_span_heads ? config.heads : 1), source,
              executor),
      k_norm_(spec.k_norm, config.head_dim * (spec.norms_span_heads ? config.kv_heads : 1), source,
              executor),
      norms_span_heads_(spec.norms_span_heads),
      grouped_(spec.grouped),
      output_(spec.output, source, executor) {
  for (const LinearSpec& linear : spec.qkv) qkv_.emplace_back(linear, source, executor);
}

std::vector<Linear*> Attention::linears() {
  std::vector<Linear*> all;
  for (Linear& linear : qkv_) all.push_back(&linear);
  all.push_back(&output_);
  return all;
}

// queries [tokens, the outputs of q, or of the fused module], keys and values [tokens, kv_heads *
// head_dim].
void Attention::project(const LayerContext& layer, const Rows& h, Out queries, Out keys,
                        Out values) const {
  const ModelConfig& c = layer.config;
  if (grouped_) return project_grouped(layer, h, queries, keys, values);
  if (qkv_.size() == 1) {
    const int64_t q_size = c.heads * c.head_dim, kv_size = c.kv_heads * c.head_dim;
    qkv_[0].apply(layer.executor, h, queries);
    layer.executor.copy(queries.column_range(q_size, kv_size), keys);
    layer.executor.copy(queries.column_range(q_size + kv_size, kv_size), values);
    return;
  }
  apply(layer.executor, h,
        std::array<LinearOutput, 3>{{{qkv_[0], queries}, {qkv_[1], keys}, {qkv_[2], values}}});
  const auto norm_heads = [&](const Norm& norm, Out x, int64_t heads) {
    const Out each = norms_span_heads_ ? x : x.as(x.rows * heads, c.head_dim);
    if (!norm.empty()) norm.apply(layer, each, each);
  };
  norm_heads(q_norm_, queries, c.heads);
  norm_heads(k_norm_, keys, c.kv_heads);
}

// The same of a module whose output holds q's heads, k and v of one kv head after the other.
void Attention::project_grouped(const LayerContext& layer, const Rows& h, Out queries, Out keys,
                                Out values) const {
  const ModelConfig& c = layer.config;
  const Executor& executor = layer.executor;
  const Matrix made = executor.allocate(queries.rows, qkv_[0].spec.out);
  qkv_[0].apply(executor, h, made);
  const int64_t groups = queries.rows * c.kv_heads, q_size = c.heads / c.kv_heads * c.head_dim;
  const Out all = made.view().as(groups, q_size + 2 * c.head_dim);
  executor.copy(all.column_range(0, q_size), queries.as(groups, q_size));
  executor.copy(all.column_range(q_size, c.head_dim), keys.as(groups, c.head_dim));
  executor.copy(all.column_range(q_size + c.head_dim, c.head_dim), values.as(groups, c.head_dim));
}

void Attention::inner(const LayerContext& layer, In h, const Batch& batch, Out attended) const {
  const Executor& executor = layer.executor;
  const ModelConfig& c = layer.config;
  const int64_t kv_size = c.kv_heads * c.head_dim;
  const std::vector<SequencePart>& parts = batch.parts();
  const Matrix queries =
      executor.allocate(h.rows, grouped_ ? c.heads * c.head_dim : qkv_[0].spec.out);
  Matrix all_keys, all_values;
  if (parts.size() == 1) {  // straight into the cache
    const LayerCache& cache = parts[0].cache;
    project(layer, h, queries, cache.keys.row_range(cache.past, h.rows),
            cache.values.row_range(cache.past, h.rows));
  } else {
    all_keys = executor.allocate(h.rows, kv_size);
    all_values = executor.allocate(h.rows, kv_size);
    project(layer, batch.rows(h), queries, all_keys, all_values);
  }
  int64_t first = 0;
  for (const SequencePart& part : parts) {
    const LayerCache& cache = part.cache;
    if (parts.size() > 1) {
      executor.copy(all_keys.view().row_range(first, part.tokens),
                    cache.keys.row_range(cache.past, part.tokens));
      executor.copy(all_values.view().row_range(first, part.tokens),
                    cache.values.row_range(cache.past, part.tokens));
    }
    const Out own = queries.view().row_range(first, part.tokens);
    attend(layer, part, own.column_range(0, c.heads * c.head_dim),
           attended.row_range(first, part.tokens));
    first += part.tokens;
  }
}

// The part's keys and values are in its cache, not yet rotated.
void Attention::attend(const LayerContext& layer, const SequencePart& part, Out queries,
                       Out attended) const {
  const ModelConfig& c = layer.config;
  const LayerCache& cache = part.cache;
  const Rotation& rotary = part.rotary.of(layer.index);
  if (!rotary.empty()) {
    const Out keys = cache.keys.row_range(cache.past, part.tokens);
    for (const Out heads : {queries, keys})
      layer.executor.rotate(heads, c.head_dim, rotary.cosine, rotary.sine, c.rope.pairs);
  }
  const auto index = static_cast<size_t>(layer.index);
  const int64_t positions = cache.past + part.tokens;
  layer.executor.attention(
      queries, cache.keys.row_range(0, positions), cache.values.row_range(0, positions),
      {.heads = c.heads,
       .kv_heads = c.kv_heads,
       .head_dim = c.head_dim,
       .window = c.window[index],
       .scale = c.attention_scale * (c.layer_scale.empty() ? 1.0f : c.layer_scale[index]),
       .soft_cap = c.attention_soft_cap,
       .slopes = c.alibi_slopes},
      attended);
}

}  // namespace qwb
