#include "lib/model/tape/taped_attention.h"

#include "lib/base/error.h"
#include "lib/model/tape/taped_norm.h"

namespace qwb {
namespace {

// body(first row, rows) of each document.
template <class Body>
void each_document(const TapeRows& rows, const Body& body) {
  int64_t first = 0;
  for (const int64_t count : rows.documents) {
    body(first, count);
    first += count;
  }
}

void rotate_documents(const LayerContext& layer, const TapeRows& rows, Out x, In cosine, In sine) {
  each_document(rows, [&](int64_t first, int64_t count) {
    layer.executor.rotate(x.row_range(first, count), layer.config.head_dim,
                          cosine.row_range(0, count), sine.row_range(0, count),
                          layer.config.rope.pairs);
  });
}

Matrix copy_of(const Executor& executor, In x) {
  Matrix copy = executor.allocate(x.rows, x.columns);
  executor.copy(x, copy);
  return copy;
}

}  // namespace

TapedAttention::TapedAttention(const ModelConfig& config, const AttentionSpec& spec,
                               const TensorSource& source, const Executor& executor)
    : q_norm_(spec.q_norm, config.head_dim * (spec.norms_span_heads ? config.heads : 1), source,
              executor),
      k_norm_(spec.k_norm, config.head_dim * (spec.norms_span_heads ? config.kv_heads : 1), source,
              executor),
      norms_span_heads_(spec.norms_span_heads),
      output_(spec.output, source, executor) {
  if (spec.grouped)
    throw Error(ErrorKind::unsupported,
                "the gradients of a module of q, k and v by groups of heads are not implemented",
                spec.qkv.front().module);
  for (const LinearSpec& linear : spec.qkv) qkv_.emplace_back(linear, source, executor);
}

std::vector<TapedLinear*> TapedAttention::linears() {
  std::vector<TapedLinear*> all;
  for (TapedLinear& linear : qkv_) all.push_back(&linear);
  all.push_back(&output_);
  return all;
}

AttentionShape TapedAttention::shape(const LayerContext& layer) const {
  const ModelConfig& c = layer.config;
  const auto index = static_cast<size_t>(layer.index);
  return {.heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .window = c.window[index],
          .scale = c.attention_scale * (c.layer_scale.empty() ? 1.0f : c.layer_scale[index]),
          .soft_cap = c.attention_soft_cap};
}

void TapedAttention::project(const LayerContext& layer, const TapeRows& rows, In h,
                             AttentionTape& tape) const {
  const Executor& executor = layer.executor;
  if (qkv_.size() > 1) {
    const Matrix* outputs[] = {&tape.queries, &tape.keys, &tape.values};
    for (size_t i = 0; i < qkv_.size(); ++i)
      tape.inner.push_back(qkv_[i].forward(executor, rows, h, *outputs[i]));
    return;
  }
  const Matrix all = executor.allocate(h.rows, qkv_[0].spec().out);
  tape.inner.push_back(qkv_[0].forward(executor, rows, h, all));
  int64_t first = 0;
  for (const Matrix* part : {&tape.queries, &tape.keys, &tape.values}) {
    executor.copy(all.view().column_range(first, part->columns()), *part);
    first += part->columns();
  }
}

void TapedAttention::norm_heads(const LayerContext& layer, const Norm& norm, int64_t heads, Out x,
                                Matrix& bare) const {
  if (norm.empty()) return;
  bare = copy_of(layer.executor, x);
  const Out each = norms_span_heads_ ? x : x.as(x.rows * heads, layer.config.head_dim);
  norm.apply(layer, each, each);
}

void TapedAttention::norm_heads_back(const LayerContext& layer, const Norm& norm, int64_t heads,
                                     const Matrix& bare, Out dx) const {
  if (norm.empty()) return;
  const int64_t rows = norms_span_heads_ ? dx.rows : dx.rows * heads;
  const Out each = dx.as(rows, dx.count() / rows);
  norm_back(layer, norm, bare.view().as(rows, each.columns), each, each, Accumulate::no);
}

void TapedAttention::forward(const LayerContext& layer, const TapeRows& rows,
                             const RotaryTable& rotary, In h, AttentionTape& tape) const {
  const Executor& executor = layer.executor;
  const ModelConfig& c = layer.config;
  const int64_t width = c.heads * c.head_dim, shared = c.kv_heads * c.head_dim;
  tape.queries = executor.allocate(h.rows, width);
  tape.keys = executor.allocate(h.rows, shared);
  tape.values = executor.allocate(h.rows, shared);
  tape.attended = executor.allocate(h.rows, width);
  tape.sums = executor.allocate(h.rows, c.heads);
  project(layer, rows, h, tape);
  norm_heads(layer, q_norm_, c.heads, tape.queries, tape.bare_queries);
  norm_heads(layer, k_norm_, c.kv_heads, tape.keys, tape.bare_keys);
  const Rotation& rotation = rotary.of(layer.index);
  if (!rotation.empty()) {
    for (const Matrix* x : {&tape.queries, &tape.keys})
      rotate_documents(layer, rows, *x, rotation.cosine, rotation.sine);
  }
  each_document(rows, [&](int64_t first, int64_t count) {
    const auto own = [&](const Matrix& all) { return all.view().row_range(first, count); };
    executor.training().attention(own(tape.queries), own(tape.keys), own(tape.values), shape(layer),
                                  own(tape.attended), own(tape.sums));
  });
}

void TapedAttention::back(const LayerContext& layer, const TapeRows& rows,
                          const RotaryTable& rotary, In h, const AttentionTape& tape, In dattended,
                          Out dh, Accumulate accumulate) const {
  const Executor& executor = layer.executor;
  const ModelConfig& c = layer.config;
  const int64_t width = c.heads * c.head_dim, shared = c.kv_heads * c.head_dim;
  const Matrix dq = executor.allocate(h.rows, width), dk = executor.allocate(h.rows, shared),
               dv = executor.allocate(h.rows, shared);
  each_document(rows, [&](int64_t first, int64_t count) {
    const auto own = [&](const Matrix& all) { return all.view().row_range(first, count); };
    executor.training().attention_back(
        {own(tape.queries), own(tape.keys), own(tape.values), own(tape.attended), own(tape.sums)},
        shape(layer), dattended.row_range(first, count), own(dq), own(dk), own(dv));
  });
  const Rotation& rotation = rotary.of(layer.index);
  if (!rotation.empty()) {  // back by the same angles
    const Matrix sine = copy_of(executor, rotation.sine);
    executor.scale(sine, -1);
    for (const Matrix* x : {&dq, &dk}) rotate_documents(layer, rows, *x, rotation.cosine, sine);
  }
  norm_heads_back(layer, q_norm_, c.heads, tape.bare_queries, dq);
  norm_heads_back(layer, k_norm_, c.kv_heads, tape.bare_keys, dk);
  const Matrix* parts[] = {&dq, &dk, &dv};
  if (qkv_.size() > 1) {
    for (size_t i = 0; i < qkv_.size(); ++i) {
      qkv_[i].back(executor, rows, h, tape.inner[i], *parts[i], dh,
                   i > 0 ? Accumulate::yes : accumulate);
    }
    return;
  }
  const Matrix all = executor.allocate(h.rows, qkv_[0].spec().out);
  int64_t first = 0;
  for (const Matrix* part : parts) {
    executor.copy(*part, all.view().column_range(first, part->columns()));
    first += part->columns();
  }
  qkv_[0].back(executor, rows, h, tape.inner[0], all, dh, accumulate);
}

}  // namespace qwb
