#include "lib/report/histogram.h"

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/codec/dense.h"
#include "lib/exec/cpu/dequantize.h"

namespace qwb::report {
namespace {

constexpr int64_t kPiece = int64_t{1} << 18;  // values dequantized at once

// Calls visit(piece, values, count) for all values of the weight, pieces in parallel.
template <typename Visit>
int64_t for_pieces(const Context& context, const Weight& weight, Visit visit) {
  const int64_t rows = weight.rows(), columns = weight.columns();
  const int64_t grain = std::max<int64_t>(1, kPiece / std::max<int64_t>(columns, 1));
  parallel_ranges(context, rows, grain, [&](int64_t begin, int64_t end) {
    const FloatBuffer values((end - begin) * columns);
    dequantize_rows(weight, begin, end, values.data());
    visit(static_cast<size_t>(begin / grain), values.data(), values.size());
  });
  return ceil_div(rows, grain);
}

size_t piece_count(const Weight& weight) {
  const int64_t columns = std::max<int64_t>(weight.columns(), 1);
  return static_cast<size_t>(ceil_div(weight.rows(), std::max<int64_t>(1, kPiece / columns)));
}

double largest_magnitude(const Weight& weight, const std::string& module, const Context& context) {
  std::vector<double> largest(piece_count(weight), 0);
  for_pieces(context, weight, [&](size_t piece, const float* values, int64_t count) {
    double most = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (!std::isfinite(values[i])) most = std::numeric_limits<double>::infinity();
      most = std::max(most, std::abs(static_cast<double>(values[i])));
    }
    largest[piece] = most;
  });
  const double most = largest.empty() ? 0 : *std::max_element(largest.begin(), largest.end());
  if (!std::isfinite(most)) throw Error(ErrorKind::failed, "NaN or Inf among the weights", module);
  return most;
}

std::vector<int64_t> counts(const Weight& weight, double limit, const Context& context) {
  std::vector<std::vector<int64_t>> parts(piece_count(weight),
                                          std::vector<int64_t>(kHistogramBins, 0));
  const double scale = static_cast<double>(kHistogramBins) / (2 * limit);
  for_pieces(context, weight, [&](size_t piece, const float* values, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const auto bin = static_cast<int64_t>((static_cast<double>(values[i]) + limit) * scale);
      ++parts[piece][std::clamp<int64_t>(bin, 0, kHistogramBins - 1)];
    }
  });
  std::vector<int64_t> all(kHistogramBins, 0);
  for (const auto& part : parts) {
    for (size_t b = 0; b < all.size(); ++b) all[b] += part[b];
  }
  return all;
}

std::string alike_name(const OpenModel& model, const std::string& module) {
  const std::string last = module.substr(module.rfind('.') + 1);
  std::vector<std::string> names = model.source->quantized_modules();
  for (const std::string& name : model.source->names()) {
    if (name.ends_with(kWeightSuffix))
      names.push_back(name.substr(0, name.size() - kWeightSuffix.size()));
  }
  for (const std::string& name : names) {
    if (!last.empty() && name.find(last) != std::string::npos) return "did you mean " + name;
  }
  return "qwb-inspect --modules lists the names";
}

}  // namespace

Weight module_weight(const OpenModel& model, const std::string& module) {
  if (auto weight = model.source->quantized(module)) return *weight;
  auto view = model.source->find(module + std::string(kWeightSuffix));
  if (!view) view = model.source->find(module);
  if (!view)
    throw Error(ErrorKind::not_found, "no module '" + module + "'", model.folder.string(),
                alike_name(model, module));
  if (!dtype_is_float(view->dtype))
    throw Error(ErrorKind::unsupported, "the tensor holds no floats", module);
  const int64_t columns = view->shape.empty() ? 1 : view->shape.back();
  const int64_t rows = columns > 0 ? view->count() / columns : 0;
  return {rows, columns, Orientation::out_in,
          DenseWeight{{view->dtype, {rows, columns}, view->bytes}}};
}

HistogramPair histogram_pair(const Weight& before, const Weight& after, const std::string& module,
                             const Context& context) {
  HistogramPair pair;
  pair.before_count = static_cast<double>(before.out) * static_cast<double>(before.in);
  pair.after_count = static_cast<double>(after.out) * static_cast<double>(after.in);
  if (pair.before_count != pair.after_count || pair.before_count == 0)
    throw Error(ErrorKind::failed, "the two models have different matrices of this name", module,
                "name the right original by --baseline");
  const double most = std::max(largest_magnitude(before, module, context),
                               largest_magnitude(after, module, context));
  pair.high = most > 0 ? most : 1;
  pair.low = -pair.high;
  pair.before = counts(before, pair.high, context);
  pair.after = counts(after, pair.high, context);
  return pair;
}

}  // namespace qwb::report
