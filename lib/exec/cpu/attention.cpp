#include "lib/exec/cpu/attention.h"

#include <algorithm>
#include <optional>

#include "lib/base/bytes.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/operands.h"
#include "lib/exec/cpu/simd.h"
#include "lib/exec/cpu/thread_scratch.h"
#include "lib/exec/cpu/tile_product.h"

namespace qwb {
namespace {

constexpr int64_t kQueryTile = 64;  // queries whose scores are held at a time

// With the sizes that the operands tell.
struct AttentionTask : AttentionShape {
  int64_t tokens, past;
  int64_t query_stride;  // floats between the rows of two tokens
};

// The first key that a query at this position sees.
int64_t lowest_key(const AttentionTask& s, int64_t position) {
  return s.window > 0 ? std::max<int64_t>(0, position - s.window + 1) : int64_t{0};
}

// exp(scores) in place of the scores of one query and the keys up to its own; returns the inverse
// of their sum.
float soften(const AttentionTask& s, int64_t head, float* scores, int64_t count) {
  if (s.soft_cap == 0 && s.slopes.empty()) return simd::softmax(scores, count, s.scale);
  float scale = s.scale;
  if (s.soft_cap != 0) {
    simd::soft_cap(scores, count, s.scale, s.soft_cap);
    scale = 1;
  }
  if (s.slopes.empty()) return simd::softmax(scores, count, scale);
  const float slope = s.slopes[static_cast<size_t>(head)];
  for (int64_t j = 0; j < count; ++j)
    scores[j] = scores[j] * scale + slope * static_cast<float>(j - count + 1);
  return simd::softmax(scores, count, 1);
}

// exp(scores) in place of the scores [count, span] of queries from position `first` on and keys
// from `begin` on, not yet divided by its sum; line(i, from, to, inverse of the sum) once a query.
template <class Line>
void soften(const AttentionTask& s, int64_t head, int64_t first, int64_t count, int64_t begin,
            float* scores, const Line& line) {
  const int64_t span = first + count - begin;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t from = lowest_key(s, first + i) - begin;
    const int64_t to = first + i + 1 - begin;
    line(i, from, to, soften(s, head, scores + i * span + from, to - from));
  }
}

// One head of a layer, of the processor's own memory; its number decides about ALiBi's slope.
struct PlainHead {
  const float *queries, *keys, *values;
  int64_t number;
};

// Softmax attention of `count` queries from position `first` on, one head.
void attend_tile(const PlainHead& head, const AttentionTask& s, int64_t first, int64_t count,
                 float* out) {
  const int64_t row = s.kv_heads * s.head_dim, width = s.heads * s.head_dim;
  const int64_t begin = lowest_key(s, first), span = first + count - begin;
  float* scores = scratch(count * span);
  sgemm({count, span, s.head_dim}, {head.queries, s.query_stride},
        {head.keys + begin * row, row, true}, {scores, span});
  soften(s, head.number, first, count, begin, scores,
         [&](int64_t i, int64_t from, int64_t to, float inverse) {
           float* line = scores + i * span;
           std::fill(line, line + from, 0.0f);
           for (int64_t j = from; j < to; ++j) line[j] *= inverse;
           std::fill(line + to, line + span, 0.0f);
         });
  sgemm({count, s.head_dim, span}, {scores, span}, {head.values + begin * row, row}, {out, width});
}

// What a product of bf16 operands reads of one head.
struct NarrowHead {
  Panels queries, keys, values;
  int64_t number;
};

// The same with bf16 operands; tiles of the keys begin at multiples of 32.
void attend_tile(const NarrowHead& head, const AttentionTask& s, int64_t first, int64_t count,
                 float* out) {
  const int64_t size = s.head_dim, width = s.heads * size;
  const int64_t begin = lowest_key(s, first) / kTileInner * kTileInner,
                span = first + count - begin;
  float* scores = scratch(count * (span + size + 1));
  float* sums = scores + count * span;
  float* inverses = sums + count * size;
  tile_product(head.queries, head.keys.from(begin, 0), {count, span, size}, scores, span, false);
  soften(s, head.number, first, count, begin, scores,
         [&](int64_t i, int64_t from, int64_t to, float inverse) {
           float* line = scores + i * span;
           std::fill(line, line + from, 0.0f);
           std::fill(line + to, line + span, 0.0f);
           inverses[i] = inverse;
         });
  const Panels weights = panels_at(narrow_scratch<Narrow::scores>(panel_values(count, span)), span);
  pack_panels(scores, {count, span, span, true}, TileForm::left, weights, Threads(1));
  tile_product(weights, head.values.from(0, begin), {count, size, span}, sums, size, false);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t k = 0; k < size; ++k) out[i * width + k] = sums[i * size + k] * inverses[i];
  }
}

// The heads of one kind [tokens, heads, size] (stride in values), packed one after the other.
// by_line: tokens are the lines, not the inner dimension.
class NarrowHeads {
 public:
  NarrowHeads(const float* values, int64_t heads, const MatrixLayout& head, TileForm form,
              uint16_t* memory, Threads threads)
      : first_(panels_at(memory, head.inner)), size_(panel_values(head.lines, head.inner)) {
    const int64_t dim = head.by_line ? head.inner : head.lines;
    for (int64_t h = 0; h < heads; ++h)
      pack_panels(values + h * dim, head, form, (*this)[h], threads);
  }
  Panels operator[](int64_t head) const { return {first_.data + head * size_, first_.steps}; }

 private:
  Panels first_;
  int64_t size_;
};

// Attention of many queries with bf16 operands.
class NarrowAttention {
 public:
  NarrowAttention(const float* queries, const float* keys, const float* values,
                  const AttentionTask& s, Threads threads)
      : shape_(s),
        queries_(queries, s.heads, {s.tokens, s.head_dim, s.query_stride, true}, TileForm::left,
                 narrow_scratch<Narrow::queries>(s.heads * panel_values(s.tokens, s.head_dim)),
                 threads),
        keys_(
            keys, s.kv_heads, {s.past + s.tokens, s.head_dim, s.kv_heads * s.head_dim, true},
            TileForm::right,
            narrow_scratch<Narrow::keys>(s.kv_heads * panel_values(s.past + s.tokens, s.head_dim)),
            threads),
        values_(values, s.kv_heads, {s.head_dim, s.past + s.tokens, s.kv_heads * s.head_dim, false},
                TileForm::right,
                narrow_scratch<Narrow::values>(s.kv_heads *
                                               panel_values(s.head_dim, s.past + s.tokens)),
                threads) {}

  void tile(int64_t head, int64_t first, int64_t count, float* out) const {
    const int64_t shared = head / (shape_.heads / shape_.kv_heads);
    const NarrowHead one{queries_[head].from(first, 0), keys_[shared], values_[shared], head};
    attend_tile(one, shape_, shape_.past + first, count, out);
  }

 private:
  const AttentionTask& shape_;
  NarrowHeads queries_, keys_, values_;
};

// One query of one head, without the library's set-up cost.
void attend_one(const PlainHead& head, const AttentionTask& s, int64_t position, float* out) {
  const int64_t row = s.kv_heads * s.head_dim;
  const int64_t begin = lowest_key(s, position);
  const int64_t span = position + 1 - begin;
  float* scores = scratch(span);
  for (int64_t j = 0; j < span; ++j)
    scores[j] = simd::dot(head.queries, head.keys + (begin + j) * row, s.head_dim);
  const float inverse = soften(s, head.number, scores, span);
  std::fill(out, out + s.head_dim, 0.0f);
  for (int64_t j = 0; j < span; ++j)
    simd::axpy(scores[j] * inverse, head.values + (begin + j) * row, out, s.head_dim);
}

}  // namespace

void attend(In query_rows, In key_rows, In value_rows, const AttentionShape& shape,
            Products products, Out y, Threads threads) {
  const AttentionTask s{shape, query_rows.rows, key_rows.rows - query_rows.rows, query_rows.stride};
  const float *queries = on_host(query_rows), *keys = dense(key_rows), *values = dense(value_rows);
  float* out = dense(y);
  const int64_t tiles = ceil_div(s.tokens, kQueryTile);
  const int64_t group = s.heads / s.kv_heads;
  const int64_t width = s.heads * s.head_dim;
  std::optional<NarrowAttention> narrow;
  if (products == Products::bf16 && s.tokens > kFewTokens)
    narrow.emplace(queries, keys, values, s, threads);
  const auto item = [&](int64_t index) {
    const int64_t head = index % s.heads;
    const int64_t first = (tiles - 1 - index / s.heads) * kQueryTile;  // the longest first
    const int64_t count = std::min(kQueryTile, s.tokens - first);
    const float* query = queries + first * s.query_stride + head * s.head_dim;
    const int64_t offset = head / group * s.head_dim;
    float* target = out + first * width + head * s.head_dim;
    if (narrow) {
      narrow->tile(head, first, count, target);
      return;
    }
    if (s.tokens > kFewTokens) {
      attend_tile(PlainHead{query, keys + offset, values + offset, head}, s, s.past + first, count,
                  target);
      return;
    }
    for (int64_t i = 0; i < count; ++i) {
      attend_one({query + i * s.query_stride, keys + offset, values + offset, head}, s,
                 s.past + first + i, target + i * width);
    }
  };
  // A short sequence is done sooner than the threads are woken.
  if (s.tokens * (s.past + s.tokens) * width < kElementGrain * 4) {
    for (int64_t i = 0; i < tiles * s.heads; ++i) item(i);
  } else {
    parallel_for(threads, tiles * s.heads, item);
  }
}

}  // namespace qwb
