#include "lib/tensor/source.h"

#include "lib/base/error.h"

namespace qwb {

LoadedWeight TensorSource::load_quantized(const std::string& module) const {
  const auto weight = quantized(module);
  if (!weight) throw Error(ErrorKind::not_found, "no quantized module '" + module + "'");
  return {*weight, {}};
}

WeightForm TensorSource::quantized_form(const std::string& module) const {
  return weight_form(load_quantized(module).weight);
}

}  // namespace qwb
