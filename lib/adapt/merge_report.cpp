#include "lib/adapt/merge_report.h"

#include <algorithm>
#include <cmath>

#include "formats/convert_weights.h"
#include "formats/hf/plain.h"
#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/exec/cpu/merged_rows.h"
#include "lib/model/linear.h"

namespace qwb {
namespace {

// Sums over a row.
struct MergeSums {
  double kept = 0, deltas = 0, weights = 0, errors = 0;

  void add(const MergeSums& other) {
    kept += other.kept, deltas += other.deltas;
    weights += other.weights, errors += other.errors;
  }
};

// Rows of one module, on any thread.
class MergeRows {
 public:
  MergeRows(const Weight& base, const Weight& merged, DType type, const Weight* trained,
            const std::string& name)
      : base_(base),
        merged_(merged),
        type_(type),
        trained_(trained),
        name_(name),
        columns_(base.columns()),
        w_(columns_),
        sum_(columns_),
        delta_(columns_),
        other_(trained != nullptr ? columns_ : 0),
        bytes_(static_cast<size_t>(columns_ * dtype_size(type))) {}

  MergeSums row(int64_t r) {
    const auto& factors = merged_.get<MergedWeight>();
    dequantize_rows(base_, r, r + 1, w_.data());
    merged_delta(factors, r, columns_, delta_.data());
    for (int64_t c = 0; c < columns_; ++c) sum_[c] = w_[c] + delta_[c];  // as it is decoded
    require_finite(sum_.data(), columns_, name_);
    narrow_floats(sum_.data(), columns_, type_, bytes_.data(), name_);
    read_floats({type_, {columns_}, bytes_}, 0, columns_, sum_.data(), name_);
    if (trained_ != nullptr) dequantize_rows(*trained_, r, r + 1, other_.data());
    MergeSums sums;
    for (int64_t c = 0; c < columns_; ++c) {
      const double w = w_[c], d = delta_[c];
      sums.kept += (sum_[c] - w) * d;
      sums.deltas += d * d;
      sums.weights += w * w;
      if (trained_ != nullptr) sums.errors += (w - other_[c]) * (w - other_[c]);
    }
    return sums;
  }

 private:
  const Weight &base_, &merged_;
  DType type_;
  const Weight* trained_;
  const std::string& name_;
  int64_t columns_;
  FloatBuffer w_, sum_, delta_, other_;
  std::vector<std::byte> bytes_;
};

ModuleMerge measure_module(const std::string& name, const Weight& base, const Weight& merged,
                           DType type, const Weight* trained, const Context& context) {
  const int64_t rows = base.rows();
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 15) / base.columns());
  std::vector<MergeSums> parts(static_cast<size_t>(rows));
  parallel_ranges(context, rows, grain, [&](int64_t begin, int64_t end) {
    MergeRows work(base, merged, type, trained, name);
    for (int64_t r = begin; r < end; ++r) parts[r] = work.row(r);
  });
  MergeSums all;
  for (const MergeSums& part : parts) all.add(part);
  ModuleMerge result{.module = name, .weights = base.count()};
  result.delta = std::sqrt(all.deltas);
  if (all.weights > 0) result.share = std::sqrt(all.deltas / all.weights);
  if (all.deltas > 0) result.kept = all.kept / all.deltas;
  if (trained != nullptr && all.deltas > 0) result.base_error = std::sqrt(all.errors / all.deltas);
  return result;
}

}  // namespace

std::vector<ModuleMerge> measure_merge(const MergedSource& merged, DType type,
                                       const TensorSource* trained, const Context& context) {
  std::vector<ModuleMerge> all;
  const std::vector<std::string> names = merged.merged_modules();
  context.progress->begin("what merging keeps", std::ssize(names));
  for (const std::string& name : names) {
    context.stop.check();
    const Weight base = merged.base_weight(name), sum = merged.merged_weight(name);
    std::optional<Weight> other;
    if (trained != nullptr)
      other = find_weight(*trained, name, base.out, base.in, base.orientation);
    const bool comparable = other && other->orientation == base.orientation;
    all.push_back(measure_module(name, base, sum, type, comparable ? &*other : nullptr, context));
    for (const auto& [part, view] : base.parts()) merged.release(view);
    if (other) {
      for (const auto& [part, view] : other->parts()) trained->release(view);
    }
    context.progress->advance(1, name);
  }
  context.progress->end();
  return all;
}

}  // namespace qwb
