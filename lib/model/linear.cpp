#include "lib/model/linear.h"

#include <cmath>

#include "lib/base/error.h"
#include "lib/codec/dense.h"

namespace qwb {

Linear::Linear(LinearSpec linear, const TensorSource& source)
    : spec(std::move(linear)),
      weight(find_weight(source, spec.module, spec.out, spec.in, spec.orientation)) {
  if (spec.bias) bias = find_vector(source, spec.module + ".bias", spec.out);
}

void Linear::apply(const Backend& backend, const float* x, int64_t tokens, float* y,
                   bool add) const {
  backend.linear(x, tokens, weight, bias_data(), y, add);
}

void apply_linears(const Backend& backend,
                   std::initializer_list<std::pair<const Linear*, float*>> linears, const float* x,
                   int64_t tokens) {
  std::vector<Backend::Output> outputs;
  for (const auto& [linear, y] : linears)
    outputs.push_back({&linear->weight, linear->bias_data(), y});
  backend.linears(x, tokens, outputs);
}

Norm::Norm(NormSpec norm, int64_t size, const TensorSource& source) : spec(std::move(norm)) {
  if (spec.empty()) return;
  gain.resize(static_cast<size_t>(size));
  if (spec.centred) bias = find_vector(source, spec.module + ".bias", size);
  set(find_vector(source, spec.module + ".weight", size), bias);
}

void Norm::set(std::vector<float> stored_gain, std::vector<float> stored_bias) {
  if (stored_gain.size() != gain.size() || stored_bias.size() != bias.size())
    throw Error(ErrorKind::failed, "another size was put in place of a norm", spec.module);
  gain = std::move(stored_gain);
  bias = std::move(stored_bias);
  if (spec.offset == 0) return;
  for (float& value : gain) value += spec.offset;
}

void Norm::apply(const LayerContext& layer, const float* x, int64_t rows, float* y) const {
  const auto size = static_cast<int64_t>(gain.size());
  if (spec.centred) {
    layer.backend.layer_norm(x, rows, size, gain.data(), bias.data(), layer.config.norm_eps, y);
  } else {
    layer.backend.rms_norm(x, rows, size, gain.data(), layer.config.norm_eps, y);
  }
}

Weight find_weight(const TensorSource& source, const std::string& module, int64_t out, int64_t in,
                   Orientation orientation) {
  std::optional<Weight> weight = source.quantized(module);
  if (!weight) {
    const auto tensor = source.find(module + ".weight");
    if (!tensor) {
      throw Error(ErrorKind::not_found, "tensor '" + module + ".weight' is missing", {},
                  "the checkpoint is incomplete or not of this architecture");
    }
    weight = Weight{out, in, orientation, DenseWeight{*tensor}};
  } else if (weight->out != out || weight->in != in) {
    throw Error(ErrorKind::failed,
                "the quantized weight is " + shape_text({weight->out, weight->in}) +
                    ", config.json asks for " + shape_text({out, in}),
                module);
  }
  check_weight(*weight, module);
  return *weight;
}

std::vector<float> find_vector(const TensorSource& source, const std::string& name, int64_t size) {
  const auto tensor = source.find(name);
  if (!tensor)
    throw Error(ErrorKind::not_found, "tensor '" + name + "' is missing", {},
                "the checkpoint is incomplete or not of this architecture");
  if (tensor->shape != Shape{size}) {
    throw Error(
        ErrorKind::failed,
        "shape is " + shape_text(tensor->shape) + ", config.json asks for " + shape_text({size}),
        name);
  }
  std::vector<float> values = read_floats(*tensor, name);
  for (const float value : values) {
    if (!std::isfinite(value))
      throw Error(ErrorKind::failed, "holds NaN or Inf", name, "the checkpoint is damaged");
  }
  return values;
}

}  // namespace qwb
