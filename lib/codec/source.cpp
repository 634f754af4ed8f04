#include "lib/codec/source.h"

#include "lib/base/error.h"

namespace qwb {

std::optional<PartSpec> TensorSource::describe(const std::string& name) const {
  const auto view = find(name);
  if (!view) return std::nullopt;
  return PartSpec{name, view->dtype, view->shape};
}

LoadedWeight TensorSource::load_quantized(const std::string& module) const {
  const auto weight = quantized(module);
  if (!weight) throw Error(ErrorKind::not_found, "no quantized module '" + module + "'");
  return {*weight, {}};
}

WeightLayout TensorSource::quantized_layout(const std::string& module) const {
  return layout_of(load_quantized(module).weight);
}

}  // namespace qwb
