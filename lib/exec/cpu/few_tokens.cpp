#include "lib/exec/cpu/few_tokens.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/decoders.h"
#include "lib/exec/cpu/packed_dot.h"
#include "lib/exec/cpu/simd.h"
#include "lib/exec/cpu/thread_scratch.h"

namespace qwb {
namespace {

using simd::PackedRows;

constexpr int64_t kPieces = 4;           // parts of a loop a thread, at least
constexpr int64_t kMostRows = 1024;      // of a part
constexpr int64_t kLeastWork = 1 << 15;  // weights of a part: fewer are done before threads wake

// The columns in a kernel's order, for every packing; made once.
const std::vector<int32_t>& column_order(simd::Packing packing) {
  static const auto orders = [] {
    std::array<std::vector<int32_t>, simd::kPackings> all;
    for (size_t p = 0; p < all.size(); ++p) {
      const auto packed = static_cast<simd::Packing>(p);
      for (int64_t i = 0; i < simd::packed_columns(packed); ++i)
        all[p].push_back(static_cast<int32_t>(simd::packed_column(packed, i)));
    }
    return all;
  }();
  return orders[static_cast<size_t>(packing)];
}

// Tokens as a kernel reads them. Its memory is kept for the thread's next product.
class Arranged {
 public:
  // Whether weights of these rows can be multiplied with what is there.
  bool serves(const PackedRows& rows) const {
    return rows.packing == packing_ && rows.columns == columns_ && rows.group == group_ &&
           rows.scattered == scattered_ && rows.group_index == group_index_ &&
           (simd::packed_sums(rows) == 0 || simd::packed_sums(rows) == run_);
  }

  void set(In x, const PackedRows& rows) {
    packing_ = rows.packing, columns_ = rows.columns, group_ = rows.group;
    run_ = simd::packed_sums(rows);
    scattered_ = rows.scattered, group_index_ = rows.group_index;
    const int64_t width =
        ceil_div(columns_, simd::packed_columns(packing_)) * simd::packed_columns(packing_);
    const int64_t steps = simd::packed_word_sums(packing_);
    const int64_t sums = steps != 0  ? width / steps
                         : run_ != 0 ? ceil_div(columns_, run_) / 16 * 16 + 32
                                     : 0;
    const int64_t needed = x.rows * (width + sums);
    if (values_.size() < needed) values_ = FloatBuffer(needed);
    if (scattered_) {
      find_scattered(width);
    } else if (group_ > 0) {
      find_groups(width);
    }
    inputs_.clear();
    for (int64_t t = 0; t < x.rows; ++t) {
      float* to = values_.data() + t * (width + sums);
      arrange(x.data + t * x.stride, to, width);
      if (run_ != 0) sum_runs(x.data + t * x.stride, to + width, sums);
      if (steps != 0) sum_words(to, width, steps);
      inputs_.push_back({to, to + width, first_.data(), within_.data(), groups_.data()});
    }
  }

  const std::vector<simd::PackedInput>& inputs() const { return inputs_; }

 private:
  void arrange(const float* x, float* to, int64_t width) const {
    const std::vector<int32_t>& order = column_order(packing_);
    const auto step = static_cast<int64_t>(order.size());
    int64_t begin = 0;
    for (; begin + step <= columns_; begin += step) {
      for (int64_t i = 0; i < step; ++i) to[begin + i] = x[begin + order[static_cast<size_t>(i)]];
    }
    for (; begin < width; begin += step) {
      for (int64_t i = 0; i < step; ++i) {
        const int64_t column = begin + order[static_cast<size_t>(i)];
        to[begin + i] = column < columns_ ? x[column] : 0.0f;
      }
    }
  }

  // Behind the arranged values.
  void sum_words(float* values, int64_t width, int64_t steps) const {
    const int64_t lanes = simd::packed_lanes();
    std::fill_n(values + width, width / steps, 0.0f);
    float* to = values + width;
    for (int64_t begin = 0; begin < width; begin += lanes * steps, to += lanes) {
      for (int64_t i = 0; i < lanes * steps; ++i) to[i % lanes] += values[begin + i];
    }
  }

  void sum_runs(const float* x, float* to, int64_t count) const {
    std::fill_n(to, count, 0.0f);
    if (scattered_) {
      for (int64_t i = 0; i < columns_; ++i) to[group_of(i)] += x[i];
      return;
    }
    for (int64_t begin = 0; begin < columns_; begin += run_, ++to) {
      for (int64_t i = begin; i < std::min(begin + run_, columns_); ++i) *to += x[i];
    }
  }

  int32_t group_of(int64_t column) const {
    if (group_index_ != nullptr) return load<int32_t>(group_index_ + 4 * column);
    return static_cast<int32_t>(column / group_);
  }

  void find_scattered(int64_t width) {
    const std::vector<int32_t>& order = column_order(packing_);
    const auto step = static_cast<int64_t>(order.size());
    groups_.clear();
    for (int64_t i = 0; i < width; ++i) {
      const int64_t column = i / step * step + order[static_cast<size_t>(i % step)];
      groups_.push_back(column < columns_ ? group_of(column) : 0);
    }
  }

  // Which scale every lane of every chunk takes.
  void find_groups(int64_t width) {
    const int64_t lanes = simd::packed_lanes(), run = simd::packed_run(packing_);
    const int64_t last = (columns_ - 1) / group_;
    first_.clear(), within_.clear();
    for (int64_t begin = 0; begin < width; begin += lanes * run) {
      const int64_t first = begin / group_;
      first_.push_back(static_cast<int32_t>(first));
      for (int64_t j = 0; j < lanes; ++j) {
        const int64_t group = std::min(last, (begin + j * run) / group_);
        within_.push_back(static_cast<int32_t>(group - first));
      }
    }
  }

  simd::Packing packing_ = simd::Packing::f32;
  int64_t columns_ = 0, group_ = 0, run_ = 0;
  FloatBuffer values_;
  bool scattered_ = false;
  const std::byte* group_index_ = nullptr;
  std::vector<int32_t> first_, within_, groups_;
  std::vector<simd::PackedInput> inputs_;
};

// A product with what its rows are multiplied by.
struct FewTask {
  const FewProduct* product;
  std::optional<PackedRows> rows;
  const simd::PackedInput* inputs = nullptr;
};

void put_sum(const FewProduct& product, int64_t token, int64_t row, float sum) {
  float& target = product.y.data[token * product.y.stride + row];
  target = product.add ? target + sum : sum;
}

// Rows [begin, end) in stored order.
void multiply_rows(const FewTask& task, In x, int64_t begin, int64_t end) {
  const FewProduct& product = *task.product;
  const int64_t count = end - begin;
  if (!task.rows) {
    const Weight& weight = *product.weight;
    float* values = scratch(weight.in);
    const Decoder& decoder = decoder_of(weight);
    for (int64_t row = begin; row < end; ++row) {
      decoder.rows(weight, row, row + 1, values);
      for (int64_t t = 0; t < x.rows; ++t)
        put_sum(product, t, row, simd::dot(values, x.data + t * x.stride, weight.in));
    }
    return;
  }
  const bool straight = !product.add && task.rows->head_rows == 0;
  float* own = scratch(simd::packed_scratch(*task.rows) + (straight ? 0 : count * x.rows));
  float* sums = own + simd::packed_scratch(*task.rows);
  simd::PackedTask packed{begin, end, task.inputs, x.rows, sums, count, own};
  if (straight) packed.y = product.y.data + begin, packed.y_stride = product.y.stride;
  simd::packed_dot(*task.rows, packed);
  if (straight) return;
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t r = 0; r < count; ++r)
      put_sum(product, t, task.rows->row_of(begin + r), sums[t * count + r]);
  }
}

// The rows of all products cut into parts of whole fours, handed out in turn.
class RowParts {
 public:
  RowParts(std::span<const FewTask> tasks, int64_t columns, Threads threads) : tasks_(tasks) {
    int64_t rows = 0;
    for (const FewTask& task : tasks) rows += task.product->weight->out;
    const int64_t wanted = ceil_div(rows, kPieces * threads.count());
    const int64_t least = ceil_div(kLeastWork, columns);
    grain_ = ceil_div(std::min(std::max(wanted, least), std::max(kMostRows, least)), 4) * 4;
    for (const FewTask& task : tasks) count_ += ceil_div(task.product->weight->out, grain_);
  }
  int64_t count() const { return count_; }
  // body(task, first row, end)
  template <class Body>
  void run(int64_t part, const Body& body) const {
    for (const FewTask& task : tasks_) {
      const int64_t rows = task.product->weight->out, parts = ceil_div(rows, grain_);
      if (part < parts) return body(task, part * grain_, std::min(rows, (part + 1) * grain_));
      part -= parts;
    }
  }

 private:
  std::span<const FewTask> tasks_;
  int64_t grain_ = 0, count_ = 0;
};

}  // namespace

void multiply_few(In x, std::span<const FewProduct> products, Threads threads) {
  constexpr size_t kMost = 4;
  static thread_local std::array<Arranged, kMost> arranged;
  for (; !products.empty(); products = products.subspan(std::min(kMost, products.size()))) {
    std::array<FewTask, kMost> tasks;
    const size_t count = std::min(kMost, products.size());
    size_t inputs = 0;
    for (size_t i = 0; i < count; ++i) {
      tasks[i].product = &products[i];
      if (simd::packed_lanes() > 1)
        tasks[i].rows = decoder_of(*products[i].weight).packed(*products[i].weight);
      if (!tasks[i].rows) continue;
      const auto end = arranged.begin() + static_cast<int64_t>(inputs);
      const auto found = std::find_if(
          arranged.begin(), end, [&](const Arranged& one) { return one.serves(*tasks[i].rows); });
      if (found == end) arranged[inputs++].set(x, *tasks[i].rows);
      tasks[i].inputs = found->inputs().data();
    }
    const RowParts parts(std::span<const FewTask>(tasks.data(), count), x.columns, threads);
    parallel_for(threads, parts.count(), [&](int64_t part) {
      parts.run(part, [&](const FewTask& task, int64_t begin, int64_t end) {
        multiply_rows(task, x, begin, end);
      });
    });
  }
}

}  // namespace qwb
