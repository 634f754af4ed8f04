#include "lib/adapt/combine.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "formats/convert_weights.h"
#include "lib/adapt/svd.h"
#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/model/linear.h"

namespace qwb {
namespace {

void add_module(const AdapterModule& m, float weight, AdapterModule& sum) {
  if (sum.rank == 0) sum.module = m.module, sum.in = m.in, sum.out = m.out;
  if (sum.in != m.in || sum.out != m.out)
    throw Error(ErrorKind::failed, "two adapters' factors have other shapes", m.module);
  const int64_t rank = sum.rank + m.rank;
  std::vector<float> b(static_cast<size_t>(m.out * rank));
  for (int64_t o = 0; o < m.out; ++o) {
    std::copy_n(sum.b.begin() + o * sum.rank, sum.rank, b.begin() + o * rank);
    for (int64_t k = 0; k < m.rank; ++k)
      b[o * rank + sum.rank + k] = m.b[o * m.rank + k] * (m.scale * weight);
  }
  sum.a.insert(sum.a.end(), m.a.begin(), m.a.end());
  sum.b = std::move(b);
  sum.rank = rank;
}

// The rank that most modules have becomes the adapter's own; scale 1.
void settle(Adapter& adapter, const AdapterSettings& first) {
  std::map<int64_t, int64_t> counts;
  for (const AdapterModule& m : adapter.modules) ++counts[m.rank];
  int64_t rank = 1, most = 0;
  for (const auto& [r, count] : counts) {
    if (count > most) rank = r, most = count;
  }
  adapter.settings = {.rank = rank,
                      .alpha = static_cast<double>(rank),
                      .base = first.base,
                      .revision = first.revision};
  for (AdapterModule& m : adapter.modules) m.scale = 1;
}

// U s^1/2 and s^1/2 V^T as B and A, so that neither is much larger than the other.
AdapterModule module_of_svd(const std::string& name, const Svd& svd, int64_t rank) {
  AdapterModule m{.module = name, .rank = rank, .in = svd.v.rows, .out = svd.u.rows};
  m.a.resize(static_cast<size_t>(rank * m.in));
  m.b.resize(static_cast<size_t>(m.out * rank));
  for (int64_t k = 0; k < rank; ++k) {
    const double root = std::sqrt(svd.s[k]);
    for (int64_t i = 0; i < m.in; ++i)
      m.a[k * m.in + i] = static_cast<float>(root * svd.v.column(k)[i]);
    for (int64_t o = 0; o < m.out; ++o)
      m.b[o * rank + k] = static_cast<float>(root * svd.u.column(k)[o]);
  }
  return m;
}

double squares(const std::vector<double>& values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += values[i] * values[i];
  return sum;
}

}  // namespace

Adapter stacked(const std::vector<WeightedAdapter>& adapters) {
  std::map<std::string, AdapterModule> sums;
  for (const WeightedAdapter& one : adapters) {
    if (!one.adapter.replaced.empty())
      throw Error(ErrorKind::unsupported, "an adapter that replaces '" +
                                              one.adapter.replaced.begin()->first +
                                              "' as a whole cannot be combined");
    for (const AdapterModule& m : one.adapter.modules)
      add_module(m, static_cast<float>(one.weight), sums[m.module]);
  }
  Adapter result;
  for (auto& [name, sum] : sums) result.modules.push_back(std::move(sum));
  settle(result, adapters.front().adapter.settings);
  return result;
}

CombinedAdapter truncated(const std::vector<WeightedAdapter>& adapters, int64_t rank,
                          const Context& context) {
  if (rank == 0) {
    for (const WeightedAdapter& one : adapters) {
      for (const AdapterModule& m : one.adapter.modules) rank = std::max(rank, m.rank);
    }
  }
  const Adapter sum = stacked(adapters);
  CombinedAdapter result;
  context.progress->begin("singular values", std::ssize(sum.modules));
  for (const AdapterModule& m : sum.modules) {
    context.stop.check();
    ColumnMatrix left(m.out, m.rank), right(m.in, m.rank);
    for (int64_t k = 0; k < m.rank; ++k) {
      for (int64_t o = 0; o < m.out; ++o) left.column(k)[o] = m.b[o * m.rank + k];
      for (int64_t i = 0; i < m.in; ++i) right.column(k)[i] = m.a[k * m.in + i];
    }
    const Svd svd = svd_of_product(left, right, context);
    const int64_t kept = std::min(rank, m.rank);
    const double all = squares(svd.s, m.rank);
    result.adapter.modules.push_back(module_of_svd(m.module, svd, kept));
    result.kept.push_back(
        {m.module, kept, all > 0 ? squares(svd.s, kept) / all : 1, std::sqrt(all)});
    context.progress->advance(1, m.module);
  }
  context.progress->end();
  settle(result.adapter, adapters.front().adapter.settings);
  return result;
}

namespace {

// A matrix f32 [rows, columns] as products know it.
MatrixProducts products_of(const FloatBuffer& values, int64_t rows, int64_t columns,
                           const Context& context) {
  MatrixProducts matrix{rows, columns, {}, {}};
  const float* data = values.data();
  matrix.times = [=](const ColumnMatrix& x) {
    return matrix_times(data, rows, columns, x, context);
  };
  matrix.times_transposed = [=](const ColumnMatrix& y) {
    return matrix_transposed_times(data, rows, columns, y, context);
  };
  return matrix;
}

FloatBuffer difference(const AdaptableModule& module, const TensorSource& base,
                       const TensorSource& tuned, const Context& context) {
  const Weight before = find_weight(base, module.name, module.out, module.in, module.orientation);
  const Weight after = find_weight(tuned, module.name, module.out, module.in, module.orientation);
  FloatBuffer values = read_out_in_f32(after, context);
  const FloatBuffer old = read_out_in_f32(before, context);
  for (int64_t i = 0; i < values.size(); ++i) values[i] -= old[i];
  for (const auto& [part, view] : before.parts()) base.release(view);
  for (const auto& [part, view] : after.parts()) tuned.release(view);
  return values;
}

// What is no module must be the same: an adapter has no place for it.
void require_same_rest(const TensorSource& base, const TensorSource& tuned,
                       const std::vector<AdaptableModule>& modules) {
  for (const std::string& name : base.names()) {
    const bool of_module = std::ranges::any_of(modules, [&](const AdaptableModule& module) {
      return module.name + std::string(kWeightSuffix) == name;
    });
    if (of_module) continue;
    const auto before = base.find(name), after = tuned.find(name);
    const bool same = after && after->shape == before->shape &&
                      read_floats(*before, name) == read_floats(*after, name);
    if (!same)
      throw Error(ErrorKind::unsupported,
                  "the two models differ in '" + name + "', for which an adapter has no place");
  }
}

}  // namespace

CombinedAdapter extracted(const TensorSource& base, const TensorSource& tuned,
                          const std::vector<AdaptableModule>& modules, int64_t rank,
                          const Context& context) {
  require_same_rest(base, tuned, modules);
  CombinedAdapter result;
  context.progress->begin("singular values", std::ssize(modules));
  for (const AdaptableModule& module : modules) {
    context.stop.check();
    const FloatBuffer values = difference(module, base, tuned, context);
    double all = 0;
    for (const float value : values.span()) all += static_cast<double>(value) * value;
    context.progress->advance(1, module.name);
    if (all == 0) continue;
    const Svd svd =
        truncated_svd(products_of(values, module.out, module.in, context), rank, context);
    const auto kept = static_cast<int64_t>(svd.s.size());
    result.adapter.modules.push_back(module_of_svd(module.name, svd, kept));
    result.kept.push_back({module.name, kept, squares(svd.s, kept) / all, std::sqrt(all)});
  }
  context.progress->end();
  if (result.adapter.modules.empty())
    throw Error(ErrorKind::failed, "the two models are the same: there is nothing to extract");
  std::ranges::sort(result.adapter.modules, {}, &AdapterModule::module);
  settle(result.adapter, {});
  return result;
}

}  // namespace qwb
