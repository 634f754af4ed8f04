#include "lib/quantize/stage_scaling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/error.h"
#include "lib/kernels/simd.h"
#include "lib/quantize/block_survey.h"
#include "lib/quantize/module_weight.h"

namespace qwb {
namespace {

using Modules = std::vector<const PlannedModule*>;

bool scales(const PlannedModule& module) {
  return module.method->scales_stages(module.settings);
}

const PlannedModule* find_module(const Modules& modules, const std::string& name) {
  const auto found = std::find_if(modules.begin(), modules.end(),
                                  [&](const PlannedModule* module) { return module->info.name == name; });
  return found == modules.end() ? nullptr : *found;
}

TensorView tensor_of(const Model& model, const std::string& name) {
  const auto tensor = model.source().find(name);
  if (!tensor) throw Error(ErrorKind::not_found, "tensor '" + name + "' is missing");
  return *tensor;
}

// What makes a stage's input: a norm, or rows of a module.
struct Maker {
  const NormSpec* norm = nullptr;
  const LinearSpec* linear = nullptr;
  int64_t first_row = 0;
  std::string obstacle = {};  // why it cannot be scaled; empty: it can
};

Maker maker_of(const ModelConfig& c, const BlockSpec& spec, Stage stage) {
  switch (stage) {
    case Stage::attention_input:
      return {&spec.attention_norm};
    case Stage::attention_output:
      return {nullptr, &spec.qkv.back(), spec.qkv.size() == 1 ? (c.heads + c.kv_heads) * c.head_dim : 0};
    case Stage::mlp_input:
      return {&spec.mlp_norm};
    case Stage::mlp_output:
      break;
  }
  Maker maker{nullptr, &spec.up};
  if (spec.gate.empty() && c.activation != Activation::relu)
    maker.obstacle = "the activation before it is not linear in a scale";
  return maker;
}

// Why the stage cannot be scaled; empty: it can.
std::string obstacle(const std::vector<LinearSpec>& readers, const Maker& maker, const Modules& modules) {
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
  if (maker.linear != nullptr) {
    if (const std::string other = foreign(maker.linear->module); !other.empty())
      return "its input is made by " + other;
  }
  return {};
}

// Divides and stores a vector; what comes back is what is stored.
std::vector<float> store_divided(const Model& model, const std::string& name, const std::vector<float>& by,
                                 int64_t first, BlockScaling& result) {
  const TensorView tensor = tensor_of(model, name);
  std::vector<float> values = read_floats(tensor, name);
  for (size_t i = 0; i < by.size(); ++i) values[static_cast<size_t>(first) + i] /= by[i];
  Tensor stored = narrow(values, tensor.dtype, tensor.shape, name);
  values = read_floats(stored.view(), name);
  result.replaced.push_back({name, std::move(stored)});
  return values;
}

class StageScaler {
 public:
  StageScaler(const Model& model, const BlockSpec& spec, Stage stage, const Modules& modules,
              std::vector<LinearSpec> readers)
      : model_(model),
        modules_(modules),
        stage_(stage),
        readers_(std::move(readers)),
        maker_(maker_of(model.config(), spec, stage)),
        obstacle_(obstacle(readers_, maker_, modules)) {
    if (obstacle_.empty() && !can_store()) obstacle_ = "what makes its input has an unusual type";
  }

  Stage stage() const { return stage_; }
  bool possible() const { return obstacle_.empty(); }

  void say_why_not(BlockScaling& result) const {
    for (const LinearSpec& reader : readers_) {
      const PlannedModule* module = find_module(modules_, reader.module);
      if (module != nullptr && scales(*module))
        result.details[reader.module] = {{"scaling", "none"}, {"why_not", obstacle_}};
    }
  }

  void choose(const Moments& moments, BlockScaling& result) const {
    StageTask stage;
    stage.moments = &moments;
    for (const LinearSpec& reader : readers_) {
      const PlannedModule* module = find_module(modules_, reader.module);
      ModuleTask task{module->info, tensor_of(model_, reader.module + ".weight")};
      task.query_key_rows = query_key_rows(model_, *module);
      stage.modules.push_back({task, &module->settings});
    }
    if (maker_.norm != nullptr) {
      describe_norm(stage);
    } else {
      describe_rows(stage);
    }
    const StageScales chosen = find_module(modules_, readers_.front().module)->method->scale_stage(stage);
    for (const LinearSpec& reader : readers_) result.details[reader.module] = chosen.details;
    if (!chosen.scales.empty()) fold(stage, chosen.scales, result);
  }

 private:
  // Whether the norm or bias that takes the scales can be written again.
  bool can_store() const {
    std::vector<std::string> names;
    if (maker_.norm != nullptr) names.push_back(maker_.norm->module + ".weight");
    if (maker_.norm != nullptr && maker_.norm->centred) names.push_back(maker_.norm->module + ".bias");
    if (maker_.linear != nullptr && maker_.linear->bias) names.push_back(maker_.linear->module + ".bias");
    return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
      const DType type = tensor_of(model_, name).dtype;
      return type == DType::f32 || type == DType::f16 || type == DType::bf16;
    });
  }

  void describe_norm(StageTask& stage) const {
    const std::string name = maker_.norm->module + ".weight";
    const TensorView gain = tensor_of(model_, name);
    stage.gains = read_floats(gain, name);
    stage.gain_type = gain.dtype;
    stage.scales = static_cast<int64_t>(stage.gains.size());
    stage.scale_of.resize(stage.gains.size());
    std::iota(stage.scale_of.begin(), stage.scale_of.end(), int64_t{0});
    for (const float value : stage.gains) stage.divided.push_back(std::abs(value));
    if (maker_.norm->centred) include(maker_.norm->module + ".bias", 0, stage.divided);
  }

  void describe_rows(StageTask& stage) const {
    const ModelConfig& c = model_.config();
    const LinearSpec& linear = *maker_.linear;
    const int64_t in = readers_.front().in;
    stage.scales = stage_ == Stage::attention_output ? c.kv_heads * c.head_dim : in;
    for (int64_t i = 0; i < in; ++i) {
      const int64_t head = i / c.head_dim, shared = head / (c.heads / c.kv_heads);
      stage.scale_of.push_back(stage_ == Stage::attention_output ? shared * c.head_dim + i % c.head_dim : i);
    }
    const FloatBuffer weight = read_out_in(
        {find_module(modules_, linear.module)->info, tensor_of(model_, linear.module + ".weight")});
    for (int64_t s = 0; s < stage.scales; ++s) {
      const float* row = weight.data() + (maker_.first_row + s) * linear.in;
      stage.divided.push_back(simd::max_magnitude(row, linear.in));
    }
    if (linear.bias) include(linear.module + ".bias", maker_.first_row, stage.divided);
  }

  void include(const std::string& name, int64_t first, std::vector<float>& divided) const {
    const std::vector<float> values = read_floats(tensor_of(model_, name), name);
    for (size_t i = 0; i < divided.size(); ++i)
      divided[i] = std::max(divided[i], std::abs(values[static_cast<size_t>(first) + i]));
  }

  void fold(const StageTask& stage, const std::vector<float>& chosen, BlockScaling& result) const {
    for (const LinearSpec& reader : readers_) {
      std::vector<float>& columns = result.folded[reader.module].columns;
      for (const int64_t scale : stage.scale_of) columns.push_back(chosen[static_cast<size_t>(scale)]);
    }
    if (maker_.norm != nullptr) {
      ScaledNorm norm{stage_, store_divided(model_, maker_.norm->module + ".weight", chosen, 0, result), {}};
      if (maker_.norm->centred)
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
  Stage stage_;
  std::vector<LinearSpec> readers_;
  Maker maker_;
  std::string obstacle_;
};

std::vector<LinearSpec> readers_of(const BlockSpec& spec, Stage stage) {
  switch (stage) {
    case Stage::attention_input:
      return spec.qkv;
    case Stage::attention_output:
      return {spec.output};
    case Stage::mlp_input:
      break;
    case Stage::mlp_output:
      return {spec.down};
  }
  std::vector<LinearSpec> readers = spec.gate;
  readers.push_back(spec.up);
  return readers;
}

}  // namespace

const FoldedScales* BlockScaling::folded_into(const std::string& module) const {
  const auto found = folded.find(module);
  return found == folded.end() ? nullptr : &found->second;
}

void BlockScaling::apply(BlockCalibration& block) const {
  for (const ScaledNorm& norm : norms) block.set_norm(norm.stage, norm.gain, norm.bias);
  for (const auto& [module, bias] : biases) block.set_bias(module, bias);
}

bool scales_stages(const Plan& plan) {
  return std::any_of(plan.modules.begin(), plan.modules.end(), [](const PlannedModule& module) {
    return module.role == PlannedModule::Role::linear && scales(module);
  });
}

BlockScaling scale_block(const Model& model, int64_t index, const Modules& modules,
                         const ResidualStream& stream) {
  const BlockSpec& spec = model.spec().blocks[static_cast<size_t>(index)];
  BlockScaling result;
  std::vector<StageScaler> stages;
  std::vector<Stage> wanted;
  for (const Stage stage : kStages) {
    const std::vector<LinearSpec> readers = readers_of(spec, stage);
    if (std::none_of(readers.begin(), readers.end(), [&](const LinearSpec& reader) {
          const PlannedModule* module = find_module(modules, reader.module);
          return module != nullptr && scales(*module);
        })) {
      continue;
    }
    StageScaler scaler(model, spec, stage, modules, readers);
    if (!scaler.possible()) {
      scaler.say_why_not(result);
      continue;
    }
    stages.push_back(std::move(scaler));
    wanted.push_back(stage);
  }
  const Survey survey = survey_block(model, index, stream, wanted);
  for (const StageScaler& stage : stages) stage.choose(survey.at(stage.stage()).moments, result);
  return result;
}

int64_t query_key_rows(const Model& model, const PlannedModule& module) {
  if (module.role != PlannedModule::Role::linear || module.stage != Stage::attention_input) return 0;
  const ModelConfig& c = model.config();
  const BlockSpec& spec = model.spec().blocks[static_cast<size_t>(module.block)];
  if (spec.qkv.size() == 1) return (c.heads + c.kv_heads) * c.head_dim;
  return module.info.name == spec.qkv.back().module ? 0 : module.info.out;
}

}  // namespace qwb
