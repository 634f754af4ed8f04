#include "lib/model/linear.h"

#include <cmath>

#include "lib/base/error.h"
#include "lib/codec/dense.h"

namespace qwb {

DeviceVector::DeviceVector(const Executor& executor, const std::vector<float>& values)
    : values_(std::make_shared<const Matrix>(executor.upload(values, MemoryKind::weights))) {}

Linear::Linear(LinearSpec linear, const TensorSource& source, const Executor& executor)
    : spec(std::move(linear)),
      weight(
          executor.prepare(find_weight(source, spec.module, spec.out, spec.in, spec.orientation))) {
  if (spec.bias)
    bias = DeviceVector(executor, find_vector(source, spec.module + ".bias", spec.out));
}

void Linear::apply(const Executor& executor, const Rows& x, Out y, Accumulate accumulate) const {
  executor.linear(x, affine(), y, accumulate);
  for (const auto& addition : additions) addition->add_to(executor, x, y);
}

void Linear::attach(std::shared_ptr<const LowRank> addition) {
  if (addition->in() != spec.in || addition->out() != spec.out)
    throw Error(ErrorKind::failed,
                "the adapter is of a module " + shape_text({addition->out(), addition->in()}) +
                    ", the model's is " + shape_text({spec.out, spec.in}),
                spec.module);
  additions.push_back(std::move(addition));
}

void apply(const Executor& executor, const Rows& x, std::span<const LinearOutput> outputs) {
  std::vector<Executor::Output> plain;
  for (const LinearOutput& output : outputs) plain.push_back({output.module.affine(), output.y});
  executor.linears(x, plain);
  for (const LinearOutput& output : outputs) {
    for (const auto& addition : output.module.additions) addition->add_to(executor, x, output.y);
  }
}

Norm::Norm(NormSpec norm, int64_t size, const TensorSource& source, const Executor& executor)
    : spec(std::move(norm)) {
  if (spec.empty()) return;
  // Of the right sizes, which set() asks for.
  const std::vector<float> none(static_cast<size_t>(size));
  gain = DeviceVector(executor, none);
  if (spec.centred) bias = gain;
  set(executor, find_vector(source, spec.module + ".weight", size),
      spec.has_bias() ? find_vector(source, spec.module + ".bias", size) : std::vector<float>());
}

void Norm::set(const Executor& executor, std::vector<float> stored_gain,
               const std::vector<float>& stored_bias) {
  const int64_t biases = spec.has_bias() ? bias.size() : 0;
  if (std::ssize(stored_gain) != gain.size() || std::ssize(stored_bias) != biases)
    throw Error(ErrorKind::failed, "another size was put in place of a norm", spec.module);
  if (spec.offset != 0) {
    for (float& value : stored_gain) value += spec.offset;
  }
  gain = DeviceVector(executor, stored_gain);
  if (spec.has_bias()) bias = DeviceVector(executor, stored_bias);
}

void Norm::apply(const LayerContext& layer, In x, Out y) const {
  if (spec.centred) {
    layer.executor.layer_norm(x, gain.view(), bias.view(), layer.config.norm_eps, y);
  } else {
    layer.executor.rms_norm(x, gain.view(), layer.config.norm_eps, y);
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
