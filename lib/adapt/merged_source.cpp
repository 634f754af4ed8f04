#include "lib/adapt/merged_source.h"

#include <algorithm>
#include <set>
#include <span>

#include "formats/hf/packing.h"
#include "formats/hf/plain.h"
#include "formats/model_modules.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/codec/dense.h"
#include "lib/codec/merged_weight.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/model/architecture.h"
#include "lib/model/config.h"

namespace qwb {
namespace {

const std::string kWeight(kWeightSuffix);

// Where an adapter's module lies among all additions to it.
struct Stack {
  WeightShape shape;
  std::vector<std::pair<const AdapterModule*, float>> parts = {};  // with their scales

  int64_t rank() const {
    int64_t total = 0;
    for (const auto& [module, scale] : parts) total += module->rank;
    return total;
  }
};

// left [rows, rank] and right [rank, columns] of the stored matrix, for a module stored [out, in]:
// scale B and A; stored [in, out]: scale A^T and B^T.
void fill_factors(const Stack& stack, float* left, float* right) {
  const bool straight = stack.shape.orientation == Orientation::out_in;
  const int64_t rank = stack.rank(), out = stack.shape.out, in = stack.shape.in;
  int64_t first = 0;
  for (const auto& [m, scale] : stack.parts) {
    for (int64_t k = 0; k < m->rank; ++k) {
      for (int64_t o = 0; o < out; ++o) {
        const float b = m->b[o * m->rank + k];
        straight ? left[o * rank + first + k] = scale * b : right[(first + k) * out + o] = b;
      }
      for (int64_t i = 0; i < in; ++i) {
        const float a = m->a[k * in + i];
        straight ? right[(first + k) * in + i] = a : left[i * rank + first + k] = scale * a;
      }
    }
    first += m->rank;
  }
}

// As the base holds it; floats of other types stay.
std::shared_ptr<const Tensor> in_type(const std::shared_ptr<const Tensor>& tensor, DType type,
                                      const std::string& name) {
  const bool floats = type == DType::f32 || type == DType::f16 || type == DType::bf16;
  if (tensor->dtype() == type || !floats) return tensor;
  auto narrowed = std::make_shared<Tensor>(type, tensor->shape());
  const std::vector<float> values = read_floats(tensor->view(), name);
  narrow_floats(values.data(), std::ssize(values), type, narrowed->bytes().data(), name);
  return narrowed;
}

[[noreturn]] void refuse_tied(const std::string& what) {
  throw Error(ErrorKind::unsupported,
              what + ": this model's output and token embeddings are one matrix", {},
              "run the adapter beside the model (--adapter), or merge without that module");
}

WeightShape linear_shape(const std::string& name, const ModelSpec& spec, const AdapterModule& m) {
  for (const BlockSpec& block : spec.blocks) {
    for (const LinearSpec& linear : block_linears(block)) {
      if (linear.module == name) return {linear.out, linear.in, linear.orientation};
    }
  }
  if (name == spec.output_embedding) {
    if (spec.output_embedding == spec.embedding) refuse_tied("an adapter of the output embedding");
    return {m.out, m.in, Orientation::out_in};
  }
  throw Error(ErrorKind::failed, "the model has no module '" + name + "'");
}

}  // namespace

MergedSource::MergedSource(OpenModel base, const std::vector<WeightedAdapter>& adapters,
                           const ModelSpec& spec, Form form)
    : base_(std::move(base)), form_(form) {
  for (const BlockSpec& block : spec.blocks) {
    for (const LinearSpec& linear : block_linears(block))
      orientations_[linear.module] = linear.orientation;
  }
  add(adapters, spec);
  for (const WeightedAdapter& one : adapters) {
    replace(one.adapter, spec);
    merged_.emplace_back(qwb::content_hash(one.adapter), one.weight);
  }
}

void MergedSource::add(const std::vector<WeightedAdapter>& adapters, const ModelSpec& spec) {
  std::map<std::string, Stack> stacks;
  for (const WeightedAdapter& one : adapters) {
    for (const AdapterModule& m : one.adapter.modules) {
      const auto [it, added] = stacks.try_emplace(m.module);
      if (added) it->second.shape = linear_shape(m.module, spec, m);
      if (it->second.shape.out != m.out || it->second.shape.in != m.in)
        throw Error(ErrorKind::failed, "the adapter's factors have another shape", m.module);
      it->second.parts.emplace_back(&m, static_cast<float>(m.scale * one.weight));
    }
  }
  for (const auto& [name, stack] : stacks) {
    auto addition = std::make_shared<Addition>();
    const int64_t rank = stack.rank();
    addition->shape = stack.shape;
    addition->left = Tensor(DType::f32, {stack.shape.rows(), rank});
    addition->right = Tensor(DType::f32, {rank, stack.shape.columns()});
    fill_factors(stack, addition->left.data<float>(), addition->right.data<float>());
    additions_.emplace(name, std::move(addition));
  }
}

void MergedSource::replace(const Adapter& adapter, const ModelSpec& spec) {
  const bool tied = spec.output_embedding == spec.embedding;
  for (const auto& [path, tensor] : adapter.replaced) {
    std::string name = path;
    // GPT-2's checkpoints may lack the first name of the path.
    if (!base_.source->describe(name) && name.find('.') != std::string::npos)
      name = name.substr(name.find('.') + 1);
    const auto there = base_.source->describe(name);
    const bool is_head = path == "lm_head.weight";
    if (tied && (is_head || name == spec.embedding + kWeight))
      refuse_tied("the adapter replaces '" + path + "'");
    if (!there)
      throw Error(ErrorKind::unsupported,
                  "the adapter replaces '" + path + "', which the model has not as a plain tensor");
    if (there->shape != tensor->shape())
      throw Error(ErrorKind::unsupported,
                  "the adapter replaces '" + path + "' " + shape_text(there->shape) +
                      " by one of " + shape_text(tensor->shape()),
                  {}, "resized embeddings are not merged");
    if (!replaced_
             .emplace(name, form_ == Form::modules ? in_type(tensor, there->dtype, path) : tensor)
             .second)
      throw Error(ErrorKind::usage, "two adapters replace '" + path + "'");
  }
}

std::vector<std::string> MergedSource::merged_modules() const {
  std::vector<std::string> names;
  for (const auto& [name, addition] : additions_) names.push_back(name);
  return names;
}

Weight MergedSource::base_weight(const std::string& module) const {
  if (const auto weight = base_.source->quantized(module)) return *weight;
  const auto tensor = base_.source->find(module + kWeight);
  if (!tensor)
    throw Error(ErrorKind::not_found, "tensor '" + module + kWeight + "' is missing",
                base_.folder.string());
  const auto it = additions_.find(module);
  if (it == additions_.end())
    throw Error(ErrorKind::not_found, "no adapter adds to '" + module + "'");
  const WeightShape& shape = it->second->shape;
  return {shape.out, shape.in, shape.orientation, DenseWeight{*tensor}};
}

Weight MergedSource::merged_weight(const std::string& module) const {
  const auto& addition = additions_.at(module);
  const Weight base = base_weight(module);
  MergedWeight merged;
  merged.base = base.encoding;
  merged.owner = addition;
  Weight weight(WeightLayout(static_cast<const WeightShape&>(base), merged));
  // Quantized, a Conv1D may be stored in the other orientation.
  if (base.orientation == addition->shape.orientation) {
    merged.left = addition->left.view(), merged.right = addition->right.view();
  } else {
    const auto turned = std::make_shared<std::pair<Tensor, Tensor>>();
    const auto turn = [](const Tensor& from) {
      const int64_t rows = from.shape()[0], columns = from.shape()[1];
      Tensor to(DType::f32, {columns, rows});
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < columns; ++c)
          to.data<float>()[c * rows + r] = from.data<float>()[r * columns + c];
      }
      return to;
    };
    turned->first = turn(addition->right), turned->second = turn(addition->left);
    merged.left = turned->first.view(), merged.right = turned->second.view();
    merged.owner = turned;
  }
  weight.set(std::move(merged));
  check_weight(weight, module);
  return weight;
}

std::optional<Weight> MergedSource::quantized(const std::string& module) const {
  if (additions_.contains(module)) return merged_weight(module);
  return base_.source->quantized(module);
}

LoadedWeight MergedSource::load_quantized(const std::string& module) const {
  if (additions_.contains(module)) return {merged_weight(module), {}};
  return base_.source->load_quantized(module);
}

WeightLayout MergedSource::quantized_layout(const std::string& module) const {
  if (additions_.contains(module)) return layout_of(merged_weight(module));
  return base_.source->quantized_layout(module);
}

std::vector<std::string> MergedSource::quantized_modules() const {
  if (form_ == Form::tensors) return {};
  std::set<std::string> all;
  for (const std::string& name : base_.source->quantized_modules()) all.insert(name);
  for (const auto& [name, addition] : additions_) all.insert(name);
  return {all.begin(), all.end()};
}

// The module whose weight this tensor is, if it is made here.
std::optional<std::string> MergedSource::tensor_module(const std::string& name) const {
  if (!name.ends_with(kWeight)) return std::nullopt;
  std::string module = name.substr(0, name.size() - kWeight.size());
  if (additions_.contains(module)) return module;
  const bool is_packed = !base_.source->describe(name) && base_.source->quantized(module);
  return is_packed ? std::optional(module) : std::nullopt;
}

Orientation MergedSource::plain_orientation(const std::string& module) const {
  const auto it = orientations_.find(module);
  return it == orientations_.end() ? Orientation::out_in : it->second;
}

const Tensor& MergedSource::made(const std::string& module) const {
  const std::lock_guard lock(mutex_);
  const auto it = made_.find(module);
  if (it != made_.end()) return it->second.values;
  const Weight weight = quantized(module).value();
  Tensor values(DType::f32, {weight.rows(), weight.columns()});
  dequantize(weight, values.data<float>());
  if (weight.orientation != plain_orientation(module)) values = transposed(values.view(), {});
  for (const auto& [part, view] : weight.parts()) base_.source->release(view);
  return made_.emplace(module, Made{std::move(values), 0}).first->second.values;
}

std::optional<TensorView> MergedSource::find(const std::string& name) const {
  if (const auto it = replaced_.find(name); it != replaced_.end()) return it->second->view();
  const auto module = tensor_module(name);
  if (!module) return base_.source->find(name);
  return form_ == Form::tensors ? std::optional(made(*module).view()) : std::nullopt;
}

std::optional<PartSpec> MergedSource::describe(const std::string& name) const {
  if (const auto it = replaced_.find(name); it != replaced_.end())
    return PartSpec{name, it->second->dtype(), it->second->shape()};
  const auto module = tensor_module(name);
  if (!module) return base_.source->describe(name);
  if (form_ == Form::modules) return std::nullopt;
  WeightShape shape = quantized_layout(*module);
  shape.orientation = plain_orientation(*module);
  return PartSpec{name, DType::f32, {shape.rows(), shape.columns()}};
}

std::vector<std::string> MergedSource::names() const {
  std::set<std::string> all;
  for (const std::string& name : base_.source->names()) all.insert(name);
  if (form_ == Form::modules) {
    for (const auto& [name, addition] : additions_) all.erase(name + kWeight);
  } else {
    for (const std::string& name : base_.source->quantized_modules()) all.insert(name + kWeight);
  }
  return {all.begin(), all.end()};
}

// Pieces of a tensor that was made come back one by one.
void MergedSource::release(const TensorView& view) const {
  {
    const std::lock_guard lock(mutex_);
    for (auto it = made_.begin(); it != made_.end(); ++it) {
      const Bytes own = it->second.values.view().bytes;
      const bool inside =
          view.bytes.data() >= own.data() && view.bytes.data() < own.data() + own.size();
      if (!inside) continue;
      it->second.released += std::ssize(view.bytes);
      if (it->second.released >= std::ssize(own)) made_.erase(it);
      return;
    }
  }
  base_.source->release(view);
}

std::string MergedSource::content_hash(const Path& memo_folder, const Context& context) const {
  Hasher hasher;
  hasher.field("qwb-merged-1").field(base_.content_hash(memo_folder, context));
  for (const auto& [hash, weight] : merged_)
    hasher.field(hash).bytes(std::as_bytes(std::span(&weight, 1)));
  return hasher.hex();
}

OpenModel merged_model(const OpenModel& base, const std::vector<WeightedAdapter>& adapters,
                       MergedSource::Form form) {
  const Architecture& architecture = find_architecture(
      json_string(base.config, "model_type", base.config_name()), base.config_name());
  const ModelConfig config = architecture.parse(base.config, base.config_name());
  OpenModel merged = base;
  merged.source =
      std::make_shared<MergedSource>(base, adapters, architecture.spec(config, *base.source), form);
  merged.manifest = nullptr;
  merged.config.erase("quantization_config");
  merged.config.erase("compression_config");
  if (!json_has(merged.config, "dtype") && !json_has(merged.config, "torch_dtype")) {
    const DType type = model_dtype(base);
    merged.config["dtype"] = type == DType::f32   ? "float32"
                             : type == DType::f16 ? "float16"
                                                  : "bfloat16";
  }
  return merged;
}

}  // namespace qwb
