#include "lib/quantize/solve/input_scaling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/error.h"
#include "lib/exec/cpu/simd.h"
#include "lib/quantize/calibrate/block_survey.h"
#include "lib/quantize/encode/module_weight.h"

namespace qwb {
namespace {

using Modules = std::vector<const PlannedModule*>;

bool scales(const PlannedModule& module) {
  return module.method->scales_inputs(module.settings);
}

const PlannedModule* find_module(const Modules& modules, const std::string& name) {
  const auto found = std::find_if(modules.begin(), modules.end(), [&](const PlannedModule* module) {
    return module->info.name == name;
  });
  return found == modules.end() ? nullptr : *found;
}

TensorView tensor_of(const Model& model, const std::string& name) {
  const auto tensor = model.source().find(name);
  if (!tensor) throw Error(ErrorKind::not_found, "tensor '" + name + "' is missing");
  return *tensor;
}

// Why the input group cannot be scaled; empty: it can.
std::string obstacle(const std::vector<LinearSpec>& readers, const InputMaker& maker,
                     const Modules& modules) {
  const auto foreign = [&](const std::string& name) -> std::string {
    const PlannedModule* module = find_module(modules, name);
    if (module == nullptr) return name + ", which stays as it is";
    if (!scales(*module)) return name + ", which gets " + module->method->name();
    return {};
  };
  for (const LinearSpec& reader : readers) {
    if (const std::string other = foreign(reader.module); !other.empty())
      return "its input is also read by " + other;
  }
  if (!maker.obstacle.empty()) return maker.obstacle;
  if (maker.linear) {
    if (const std::string other = foreign(maker.linear->module); !other.empty())
      return "its input is made by " + other;
  }
  return {};
}

// Divides and stores a vector, of which `offset` is left out where it is stored; what comes back is
// what is stored.
std::vector<float> store_divided(const Model& model, const std::string& name,
                                 const std::vector<float>& by, int64_t first, BlockScaling& result,
                                 float offset = 0) {
  const TensorView tensor = tensor_of(model, name);
  std::vector<float> values = read_floats(tensor, name);
  for (size_t i = 0; i < by.size(); ++i) {
    float& value = values[static_cast<size_t>(first) + i];
    value = offset == 0 ? value / by[i] : (value + offset) / by[i] - offset;
  }
  Tensor stored = narrow(values, tensor.dtype, tensor.shape, name);
  values = read_floats(stored.view(), name);
  result.replaced.push_back({name, std::move(stored)});
  return values;
}

class InputScaler {
 public:
  // index: of the group among the block's.
  InputScaler(const Model& model, const InputGroup& group, size_t index, const Modules& modules,
              const Context& context)
      : model_(model),
        modules_(modules),
        index_(index),
        readers_(group.readers),
        maker_(group.maker),
        obstacle_(obstacle(readers_, maker_, modules)),
        context_(context) {
    if (obstacle_.empty() && !can_store()) obstacle_ = "what makes its input has an unusual type";
  }

  size_t index() const { return index_; }
  bool possible() const { return obstacle_.empty(); }

  void report_obstacle(BlockScaling& result) const {
    for (const LinearSpec& reader : readers_) {
      const PlannedModule* module = find_module(modules_, reader.module);
      if (module != nullptr && scales(*module))
        result.details[reader.module] = {{"scaling", "none"}, {"why_not", obstacle_}};
    }
  }

  void choose(const Moments& moments, BlockScaling& result) const {
    InputGroupTask group;
    group.moments = &moments;
    for (const LinearSpec& reader : readers_) {
      const PlannedModule* module = find_module(modules_, reader.module);
      ModuleTask task{module->info, tensor_of(model_, reader.module + ".weight")};
      task.query_key_rows = query_key_rows(model_, *module);
      task.context = context_;
      group.modules.push_back({task, &module->settings});
    }
    if (maker_.norm) {
      describe_norm(group);
    } else {
      describe_rows(group);
    }
    const InputScales chosen =
        find_module(modules_, readers_.front().module)->method->scale_inputs(group);
    for (const LinearSpec& reader : readers_) result.details[reader.module] = chosen.details;
    if (!chosen.scales.empty()) fold(group, chosen.scales, result);
  }

 private:
  // Whether the norm or bias that takes the scales can be written again.
  bool can_store() const {
    std::vector<std::string> names;
    if (maker_.norm) names.push_back(maker_.norm->module + ".weight");
    if (maker_.norm && maker_.norm->has_bias()) names.push_back(maker_.norm->module + ".bias");
    if (maker_.linear && maker_.linear->bias) names.push_back(maker_.linear->module + ".bias");
    return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
      const DType type = tensor_of(model_, name).dtype;
      return type == DType::f32 || type == DType::f16 || type == DType::bf16;
    });
  }

  void describe_norm(InputGroupTask& group) const {
    const std::string name = maker_.norm->module + ".weight";
    const TensorView gain = tensor_of(model_, name);
    group.gains = read_floats(gain, name);
    group.gain_offset = maker_.norm->offset;
    if (maker_.norm->offset != 0) {
      for (float& value : group.gains) value += maker_.norm->offset;
    }
    group.gain_type = gain.dtype;
    group.scales = static_cast<int64_t>(group.gains.size());
    group.scale_of.resize(group.gains.size());
    std::iota(group.scale_of.begin(), group.scale_of.end(), int64_t{0});
    for (const float value : group.gains) group.divided.push_back(std::abs(value));
    if (maker_.norm->has_bias()) include(maker_.norm->module + ".bias", 0, group.divided);
  }

  void describe_rows(InputGroupTask& group) const {
    const ModelConfig& c = model_.config();
    const LinearSpec& linear = *maker_.linear;
    const int64_t in = readers_.front().in;
    group.scales = maker_.by_value_head ? c.kv_heads * c.head_dim : in;
    for (int64_t i = 0; i < in; ++i) {
      const int64_t head = i / c.head_dim, shared = head / (c.heads / c.kv_heads);
      group.scale_of.push_back(maker_.by_value_head ? shared * c.head_dim + i % c.head_dim : i);
    }
    ModuleTask task{find_module(modules_, linear.module)->info,
                    tensor_of(model_, linear.module + ".weight")};
    task.context = context_;
    const FloatBuffer weight = read_out_in(task);
    for (int64_t s = 0; s < group.scales; ++s) {
      const float* row = weight.data() + (maker_.first_row + s) * linear.in;
      group.divided.push_back(simd::max_magnitude(row, linear.in));
    }
    if (linear.bias) include(linear.module + ".bias", maker_.first_row, group.divided);
  }

  void include(const std::string& name, int64_t first, std::vector<float>& divided) const {
    const std::vector<float> values = read_floats(tensor_of(model_, name), name);
    for (size_t i = 0; i < divided.size(); ++i)
      divided[i] = std::max(divided[i], std::abs(values[static_cast<size_t>(first) + i]));
  }

  void fold(const InputGroupTask& group, const std::vector<float>& chosen,
            BlockScaling& result) const {
    for (const LinearSpec& reader : readers_) {
      std::vector<float>& columns = result.folded[reader.module].columns;
      for (const int64_t scale : group.scale_of) columns.push_back(chosen[scale]);
    }
    if (maker_.norm) {
      ScaledNorm norm{maker_.norm->module,
                      store_divided(model_, maker_.norm->module + ".weight", chosen, 0, result,
                                    maker_.norm->offset),
                      {}};
      if (maker_.norm->has_bias())
        norm.bias = store_divided(model_, maker_.norm->module + ".bias", chosen, 0, result);
      result.norms.push_back(std::move(norm));
      return;
    }
    const LinearSpec& linear = *maker_.linear;
    std::vector<float>& rows = result.folded[linear.module].rows;
    rows.assign(static_cast<size_t>(linear.out), 1.0f);
    std::copy(chosen.begin(), chosen.end(), rows.begin() + maker_.first_row);
    if (linear.bias) {
      result.biases[linear.module] =
          store_divided(model_, linear.module + ".bias", chosen, maker_.first_row, result);
    }
  }

  const Model& model_;
  const Modules& modules_;
  size_t index_;
  std::vector<LinearSpec> readers_;
  InputMaker maker_;
  std::string obstacle_;
  Context context_;
};

}  // namespace

const FoldedScales* BlockScaling::folded_into(const std::string& module) const {
  const auto found = folded.find(module);
  return found == folded.end() ? nullptr : &found->second;
}

void BlockScaling::apply(BlockCalibration& block) const {
  for (const ScaledNorm& norm : norms) block.set_norm(norm.module, norm.gain, norm.bias);
  for (const auto& [module, bias] : biases) block.set_bias(module, bias);
}

bool scales_inputs(const Plan& plan) {
  return std::any_of(plan.modules.begin(), plan.modules.end(), [](const PlannedModule& module) {
    return module.role == PlannedModule::Role::linear && scales(module);
  });
}

BlockScaling scale_block(const Model& model, int64_t index, const Modules& modules,
                         const ResidualStream& stream, const Context& context) {
  const std::vector<InputGroup> groups = input_groups(model.config(), model.spec().blocks[index]);
  BlockScaling result;
  std::vector<InputScaler> scalers;
  std::vector<size_t> wanted;
  for (size_t group = 0; group < groups.size(); ++group) {
    const std::vector<LinearSpec>& readers = groups[group].readers;
    if (std::none_of(readers.begin(), readers.end(), [&](const LinearSpec& reader) {
          const PlannedModule* module = find_module(modules, reader.module);
          return module != nullptr && scales(*module);
        })) {
      continue;
    }
    InputScaler scaler(model, groups[group], group, modules, context);
    if (!scaler.possible()) {
      scaler.report_obstacle(result);
      continue;
    }
    scalers.push_back(std::move(scaler));
    wanted.push_back(group);
  }
  const Survey survey = survey_block(model, index, stream, wanted, context);
  for (const InputScaler& one : scalers) one.choose(survey.at(one.index()).moments, result);
  return result;
}

int64_t query_key_rows(const Model& model, const PlannedModule& module) {
  if (module.role != PlannedModule::Role::linear) return 0;
  const ModelConfig& c = model.config();
  for (const SublayerSpec& sublayer : model.spec().blocks[module.block].sublayers) {
    const auto* attention = attention_of(sublayer);
    if (attention == nullptr) continue;
    const std::vector<LinearSpec>& qkv = attention->qkv;
    if (std::none_of(qkv.begin(), qkv.end(),
                     [&](const LinearSpec& linear) { return linear.module == module.info.name; })) {
      continue;
    }
    if (qkv.size() == 1) return (c.heads + c.kv_heads) * c.head_dim;
    return module.info.name == qkv.back().module ? 0 : module.info.out;
  }
  return 0;
}

}  // namespace qwb
