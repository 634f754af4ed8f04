// What merging did to a module: how much of what the adapters add survived the output's type, and
// how it compares with what quantizing the base had changed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/adapt/merged_source.h"
#include "lib/base/context.h"

namespace qwb {

struct ModuleMerge {
  std::string module;
  int64_t weights = 0;
  // <round(W + D) - W, D> / <D, D> with D = s B A: 1 where nothing was lost. 1 for D = 0.
  double kept = 1;
  double delta = 0;  // |D|, Frobenius
  double share = 0;  // |D| / |W|
  // |q| / |D| with q = W - W', W' what the adapter was trained beside: above 1 the merge changes
  // the module more by leaving W' than by D. Nothing where W' is W.
  std::optional<double> base_error = {};
};

// Of the modules that adapters add to, in their order. type: of the values as they are stored.
// trained: the base that the adapters were trained beside, null where it is the one merged into.
// Throws `failed`, naming the module, where a value is NaN or Inf or does not fit the type.
std::vector<ModuleMerge> measure_merge(const MergedSource& merged, DType type,
                                       const TensorSource* trained, const Context& context);

}  // namespace qwb
