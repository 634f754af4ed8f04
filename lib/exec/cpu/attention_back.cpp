#include "lib/exec/cpu/attention_back.h"

#include <algorithm>
#include <cmath>

#include "lib/base/bytes.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/matmul.h"
#include "lib/exec/cpu/operands.h"
#include "lib/exec/cpu/simd.h"
#include "lib/exec/cpu/thread_scratch.h"
#include "lib/exec/cpu/training_simd.h"

namespace qwb {
namespace {

constexpr int64_t kRowTile = 64;  // queries whose scores are held at a time

// Some queries of one head, and the keys that any of them sees.
struct RowTile {
  int64_t head, first, count, begin, span;
};

// The operands of one sequence, and where its heads lie in them.
struct WholeSequence {
  const AttentionShape& shape;
  int64_t tokens;
  int64_t width() const { return shape.heads * shape.head_dim; }
  int64_t shared_width() const { return shape.kv_heads * shape.head_dim; }
  int64_t shared(int64_t head) const {
    return head / (shape.heads / shape.kv_heads) * shape.head_dim;
  }
  int64_t lowest(int64_t position) const {
    return shape.window > 0 ? std::max<int64_t>(0, position - shape.window + 1) : 0;
  }
  RowTile tile(int64_t head, int64_t first) const {
    const int64_t count = std::min(kRowTile, tokens - first), begin = lowest(first);
    return {head, first, count, begin, first + count - begin};
  }
};

// The shaped scores [count, span]; line(i, row, from, to) once a query, whose keys they are.
// Scores of keys that a query does not see become 0 after that.
template <class Line>
void score_tile(const WholeSequence& s, const RowTile& tile, In queries, In keys, float* scores,
                const Line& line) {
  const int64_t size = s.shape.head_dim;
  sgemm({tile.count, tile.span, size},
        {queries.data + tile.first * s.width() + tile.head * size, s.width()},
        {keys.data + tile.begin * s.shared_width() + s.shared(tile.head), s.shared_width(), true},
        {scores, tile.span});
  for (int64_t i = 0; i < tile.count; ++i) {
    float* row = scores + i * tile.span;
    const int64_t from = s.lowest(tile.first + i) - tile.begin,
                  to = tile.first + i + 1 - tile.begin;
    if (s.shape.soft_cap != 0)
      simd::soft_cap(row + from, to - from, s.shape.scale, s.shape.soft_cap);
    line(i, row, from, to);
    std::fill(row, row + from, 0.0f);
    std::fill(row + to, row + tile.span, 0.0f);
  }
}

// What scores are still multiplied with.
float open_scale(const AttentionShape& shape) {
  return shape.soft_cap != 0 ? 1.0f : shape.scale;
}

void attend_rows(const WholeSequence& s, const RowTile& tile, In queries, In keys, In values, Out y,
                 Out sums) {
  const int64_t size = s.shape.head_dim;
  const float scale = open_scale(s.shape);
  float* scores = scratch(tile.count * tile.span);
  score_tile(s, tile, queries, keys, scores, [&](int64_t i, float* row, int64_t from, int64_t to) {
    const float maximum = *std::max_element(row + from, row + to) * scale;
    const float inverse = simd::softmax(row + from, to - from, scale);
    for (int64_t j = from; j < to; ++j) row[j] *= inverse;
    sums.data[(tile.first + i) * s.shape.heads + tile.head] = maximum - std::log(inverse);
  });
  sgemm({tile.count, size, tile.span}, {scores, tile.span},
        {values.data + tile.begin * s.shared_width() + s.shared(tile.head), s.shared_width()},
        {y.data + tile.first * s.width() + tile.head * size, s.width()});
}

// Gradients of one head: of its queries in their place, of keys and values [tokens, head_dim].
class HeadBack {
 public:
  HeadBack(const WholeSequence& s, const Attended& kept, In dy, Out dq, int64_t head)
      : s_(s), kept_(kept), dy_(dy), dq_(dq), head_(head) {}

  void run(float* dk, float* dv) const {
    const int64_t size = s_.shape.head_dim;
    std::fill_n(dk, s_.tokens * size, 0.0f);
    std::fill_n(dv, s_.tokens * size, 0.0f);
    for (int64_t first = 0; first < s_.tokens; first += kRowTile)
      rows(s_.tile(head_, first), dk, dv);
  }

 private:
  void rows(const RowTile& tile, float* dk, float* dv) const {
    const int64_t size = s_.shape.head_dim, width = s_.width(), shared = s_.shared_width();
    float* weights = scratch(2 * tile.count * tile.span);
    float* slopes = weights + tile.count * tile.span;
    const int64_t own = tile.first * width + head_ * size;
    const int64_t seen = tile.begin * shared + s_.shared(head_);
    const Factor dy{dy_.data + own, width};
    sgemm({tile.count, tile.span, size}, dy, {kept_.values.data + seen, shared, true},
          {slopes, tile.span});
    score_tile(s_, tile, kept_.queries, kept_.keys, weights,
               [&](int64_t i, float* row, int64_t from, int64_t to) {
                 softened(tile, i, row, slopes + i * tile.span, from, to);
               });
    const Factor turned_weights{weights, tile.span, true}, turned_slopes{slopes, tile.span, true};
    sgemm({tile.span, size, tile.count}, turned_weights, dy, {dv + tile.begin * size, size, 1});
    sgemm({tile.count, size, tile.span}, {slopes, tile.span}, {kept_.keys.data + seen, shared},
          {dq_.data + own, width});
    sgemm({tile.span, size, tile.count}, turned_slopes, {kept_.queries.data + own, width},
          {dk + tile.begin * size, size, 1});
  }

  // Scores become weights, and the gradients by weights those by unshaped scores.
  void softened(const RowTile& tile, int64_t i, float* row, float* slopes, int64_t from,
                int64_t to) const {
    const AttentionShape& shape = s_.shape;
    const int64_t t = tile.first + i, place = t * s_.width() + head_ * shape.head_dim;
    const float mean = simd::dot(dy_.data + place, kept_.y.data + place, shape.head_dim);
    std::fill(slopes, slopes + from, 0.0f);
    std::fill(slopes + to, slopes + tile.span, 0.0f);
    for (int64_t j = from; shape.soft_cap != 0 && j < to; ++j) {
      const float part = row[j] / shape.soft_cap;
      slopes[j] = (slopes[j] - mean) * (1 - part * part);
    }
    simd::exponentials(row + from, to - from, open_scale(shape),
                       kept_.sums.data[t * shape.heads + head_]);
    simd::softmax_back(row + from, shape.soft_cap != 0 ? 0 : mean, shape.scale, slopes + from,
                       to - from);
  }

  const WholeSequence& s_;
  const Attended& kept_;
  In dy_;
  Out dq_;
  int64_t head_;
};

// to [tokens, kv_heads * head_dim] = the sums over the heads that share one, in ascending order.
void add_heads(const WholeSequence& s, const float* heads, Out to, Threads threads) {
  const int64_t size = s.shape.head_dim, group = s.shape.heads / s.shape.kv_heads;
  parallel_ranges(threads, s.tokens, 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = 0; h < s.shape.heads; ++h) {
        const float* from = heads + (h * s.tokens + t) * size;
        float* sum = to.data + t * s.shared_width() + s.shared(h);
        if (h % group == 0) {
          std::copy_n(from, size, sum);
        } else {
          simd::add(sum, from, size);
        }
      }
    }
  });
}

}  // namespace

void attend_kept(In queries, In keys, In values, const AttentionShape& shape, Out y, Out sums,
                 Threads threads) {
  dense(queries), dense(keys), dense(values), dense(y), dense(sums);
  const WholeSequence s{shape, queries.rows};
  const int64_t tiles = ceil_div(s.tokens, kRowTile);
  parallel_for(threads, tiles * shape.heads, [&](int64_t index) {
    const int64_t first = (tiles - 1 - index / shape.heads) * kRowTile;  // the longest first
    attend_rows(s, s.tile(index % shape.heads, first), queries, keys, values, y, sums);
  });
}

void attend_back(const Attended& kept, const AttentionShape& shape, In dy,
                 const AttentionGradients& gradients, Threads threads) {
  dense(kept.queries), dense(kept.keys), dense(kept.values), dense(kept.y), dense(kept.sums);
  dense(dy), dense(gradients.queries), dense(gradients.keys), dense(gradients.values);
  const WholeSequence s{shape, kept.queries.rows};
  const int64_t each = s.tokens * shape.head_dim;
  const FloatBuffer keys(shape.heads * each), values(shape.heads * each);
  parallel_for(threads, shape.heads, [&](int64_t head) {
    HeadBack(s, kept, dy, gradients.queries, head)
        .run(keys.data() + head * each, values.data() + head * each);
  });
  add_heads(s, keys.data(), gradients.keys, threads);
  add_heads(s, values.data(), gradients.values, threads);
}

}  // namespace qwb
