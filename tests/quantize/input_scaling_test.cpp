// Scales folded into a model leave it as it was; which input groups can be scaled, in whole and in
// mixed plans.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "lib/base/hash.h"
#include "lib/base/parallel.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"
#include "lib/quantize/calibrate/block_survey.h"
#include "lib/quantize/encode/module_weight.h"
#include "lib/quantize/pipeline.h"
#include "tests/exec/executor_helper.h"
#include "tests/quantize/demo_helper.h"

namespace qwb {
namespace {

// Scales every input group it is offered by anything between 1/4 and 4, and quantizes nothing.
class FoldOnly : public Method {
 public:
  std::string name() const override { return "fold-only"; }
  std::string summary() const override { return "for this test"; }
  int version() const override { return 1; }
  std::vector<Parameter> parameters() const override { return {}; }
  bool needs_calibration() const override { return true; }
  double bits(const Settings& /*settings*/) const override { return 32; }
  WeightLayout layout(const ModuleInfo& module, const Settings& /*settings*/) const override {
    return dense_layout({module.out, module.in}, DType::f32);
  }
  ModuleResult quantize(const ModuleTask& task, const Settings& settings) const override {
    ModuleResult result;
    result.tensor = QuantizedTensor(layout(task.info, settings));
    const FloatBuffer weight = read_out_in(task);
    std::copy_n(weight.data(), weight.size(), result.tensor.parts.at("weight").data<float>());
    return result;
  }
  bool scales_inputs(const Settings& /*settings*/) const override { return true; }
  InputScales scale_inputs(const InputGroupTask& group) const override {
    EXPECT_EQ(group.divided.size(), static_cast<size_t>(group.scales));
    EXPECT_EQ(group.moments->input_magnitude.size(), group.scale_of.size());
    Rng rng(static_cast<uint64_t>(++groups));
    InputScales result;
    for (int64_t k = 0; k < group.scales; ++k)
      result.scales.push_back(static_cast<float>(std::exp2(4 * rng.uniform() - 2)));
    result.details["scaling"] = "random";
    return result;
  }
  mutable int groups = 0;
};

struct Folded : ModuleSink {
  void put(const PlannedModule& module, const QuantizedTensor& tensor,
           const ModuleReport& report) override {
    const std::vector<float> values = dequantize(tensor);
    weights.emplace(module.info.name, make_tensor(values, {tensor.out, tensor.in}));
    details[module.info.name] = report.details;
    order.push_back(module.info.name);
  }
  void replace(const std::string& name, const TensorView& values) override {
    replaced.emplace(name, make_tensor(read_floats(values, name), values.shape));
  }
  std::map<std::string, Tensor> weights, replaced;
  std::map<std::string, Json> details;
  std::vector<std::string> order;
};

std::unique_ptr<Model> load(const std::shared_ptr<DemoSource>& source, const std::string& name) {
  return Model::load(source, demo_config(name), name,
                     make_executor(ExecutorKind::reference, Threads(1)));
}

std::vector<float> logits_of(const Model& model) {
  const std::vector<int32_t> tokens = {1, 37, 30, 20, 8, 8, 11, 5};
  const auto count = static_cast<int64_t>(tokens.size());
  KvCache cache = model.new_cache(count);
  FloatBuffer hidden(count * model.config().hidden);
  std::vector<float> logits(static_cast<size_t>(count * model.config().vocab));
  const Out states(hidden.data(), count, model.config().hidden);
  model.forward(tokens, cache, states);
  model.logits(states, Out(logits.data(), count, model.config().vocab));
  return logits;
}

Folded run(const Model& model, const Plan& plan, Threads threads = {}) {
  const CalibrationSet set = random_windows(3, 32, model.config().vocab);
  Folded sink;
  quantize_model(model, plan, &set, sink, {.threads = threads});
  return sink;
}

// A weight [out, in] as the checkpoint stores it.
Tensor as_stored(const Tensor& weight, const TensorView& original) {
  if (weight.shape() == original.shape && original.shape[0] != original.shape[1])
    return make_tensor(read_floats(weight.view(), "w"), weight.shape());
  const int64_t out = weight.shape()[0], in = weight.shape()[1];
  const std::vector<float> values = read_floats(weight.view(), "w");
  std::vector<float> turned(values.size());
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t i = 0; i < in; ++i) turned[i * out + o] = values[o * in + i];
  }
  return make_tensor(turned, {in, out});
}

class Folding : public testing::TestWithParam<const char*> {};

// Per layer: the groups that something can be folded into, and the norms that take it.
struct Foldable {
  int64_t groups, norms;
};
Foldable foldable(const std::string& golden, const ModelConfig& config) {
  // Where v lies between q and k, nothing goes into v; nothing passes an activation but ReLU.
  static const std::map<std::string, Foldable> kPlain = {
      {"gpt_neox", {2, 2}},  {"gptj", {2, 1}},       {"opt", {4, 2}},        {"bloom", {2, 2}},
      {"falcon_7b", {2, 1}}, {"falcon_40b", {2, 2}}, {"falcon_11b", {1, 1}}, {"mpt", {3, 2}}};
  if (const auto it = kPlain.find(golden); it != kPlain.end()) return it->second;
  const std::string& family = config.architecture;
  // The norm before experts has many readers.
  if (config.experts > 0) return {2 + config.experts, 1};
  if (family == "olmo2") return {2, 0};  // no norms before its mixers
  if (family.starts_with("cohere")) return {3, 1};
  return {family == "gpt2" || family == "starcoder2" ? 3 : 4, 2};
}

// The largest difference of logits between a model and what folding made of it, as a share of the
// largest.
double change_of_logits(const std::string& name, const Model& model, Folded folded) {
  const auto changed = std::make_shared<DemoSource>(name);
  const bool gpt2 = model.config().architecture == "gpt2";
  for (auto& [module, weight] : folded.weights) {
    const std::string tensor = module + ".weight";
    changed->tensors.emplace(
        tensor, gpt2 ? as_stored(weight, *model.source().find(tensor))
                     : make_tensor(read_floats(weight.view(), module), weight.shape()));
  }
  for (auto& [tensor, values] : folded.replaced)
    changed->tensors.emplace(tensor, std::move(values));
  const std::vector<float> before = logits_of(model), after = logits_of(*load(changed, name));
  double largest = 0, change = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(before[i])));
    change = std::max(change, std::abs(static_cast<double>(after[i]) - before[i]));
  }
  EXPECT_GT(largest, 0);
  return change / largest;
}

// f32 weights and activations each rounded anew: some 1e-7 of the largest value per layer.
constexpr double kRounding = 1e-5;

TEST_P(Folding, LeavesTheLogits) {
  const std::string name = "tests/golden/model/" + std::string(GetParam());
  const auto model = load(std::make_shared<DemoSource>(name), name);
  const FoldOnly method;
  Folded folded = run(*model, plan_modules(*model, method, Json::object()));
  const auto [groups, norms] = foldable(GetParam(), model->config());
  const int64_t layers = model->config().layers;
  EXPECT_EQ(method.groups, groups * layers);
  EXPECT_GE(folded.replaced.size(), static_cast<size_t>(norms * layers));
  EXPECT_LE(change_of_logits(name, *model, std::move(folded)), kRounding);
}

// The same with any one module left out, and with any one alone: what stays must not notice.
TEST_P(Folding, LeavesTheLogitsInPartialSelections) {
  const std::string name = "tests/golden/model/" + std::string(GetParam());
  const auto model = load(std::make_shared<DemoSource>(name), name);
  const FoldOnly method;
  int scaled = 0;
  for (const PlannedModule& module : plan_modules(*model, method, Json::object()).modules) {
    if (module.block != 0) continue;
    for (const bool alone : {false, true}) {
      PlanRequest request;
      request.method = &method;
      (alone ? request.include : request.exclude) = {module.info.name};
      Folded folded = run(*model, plan_modules(*model, request));
      EXPECT_EQ(folded.weights.contains(module.info.name), alone);
      scaled += folded.replaced.empty() ? 0 : 1;
      EXPECT_LE(change_of_logits(name, *model, std::move(folded)), kRounding)
          << module.info.name << alone;
    }
  }
  const auto [groups, norms] = foldable(GetParam(), model->config());
  EXPECT_GE(scaled, norms == 0 ? 0 : std::min<int64_t>(4, 2 * groups));
}

INSTANTIATE_TEST_SUITE_P(Models, Folding,
                         testing::Values("llama", "llama_tied_head_dim", "mistral", "qwen2",
                                         "qwen3", "gemma2", "gpt2", "gpt2_scaled", "gemma3",
                                         "cohere"),
                         [](const auto& model) { return std::string(model.param); });
// As the others; under sanitizers those above will do.
INSTANTIATE_TEST_SUITE_P(SlowFamilies, Folding,
                         testing::Values("mixtral", "olmo2", "granite", "smollm3", "phi3",
                                         "starcoder2", "stablelm", "glm4", "cohere2", "gpt_neox",
                                         "gptj", "opt", "bloom", "falcon_7b", "falcon_40b",
                                         "falcon_11b", "mpt", "qwen3_moe", "olmoe"),
                         [](const auto& model) { return std::string(model.param); });

TEST(InputScaling, WhyGptTwosDownProjectionIsNotScaled) {
  const std::string name = "tests/golden/model/gpt2";
  const auto model = load(std::make_shared<DemoSource>(name), name);
  const FoldOnly method;
  const Folded folded = run(*model, plan_modules(*model, method, Json::object()));
  EXPECT_EQ(folded.details.at("transformer.h.0.mlp.c_proj").at("why_not"),
            "the activation before it is not linear in a scale");
  EXPECT_EQ(folded.details.at("transformer.h.0.mlp.c_fc").at("scaling"), "random");
}

Folded run_plan(const std::string& file, std::vector<std::string> include, Threads threads = {}) {
  const std::string name = "tests/golden/model/qwen2";
  const auto model = load(std::make_shared<DemoSource>(name), name);
  const PlanFile plan = parse_plan(file, "plan.json");
  PlanRequest request;
  request.method = &find_method("awq");
  request.given = {{"group_size", 8}, {"bits", 3}};
  request.include = std::move(include);
  request.rules = plan.rules;
  return run(*model, plan_modules(*model, request), threads);
}

// A module that stays, or gets another method, must go on seeing what it saw.
TEST(InputScaling, OnlyWhereNobodyElseNotices) {
  const std::string layer = "model.layers.0.";
  const Folded kept =
      run_plan("{}", {"0.self_attn.q_proj", "0.self_attn.k_proj", "0.self_attn.o_proj"});
  EXPECT_TRUE(kept.replaced.empty());
  EXPECT_EQ(kept.details.at(layer + "self_attn.q_proj").at("why_not"),
            "its input is also read by " + layer + "self_attn.v_proj, which stays as it is");
  EXPECT_EQ(kept.details.at(layer + "self_attn.o_proj").at("why_not"),
            "its input is made by " + layer + "self_attn.v_proj, which stays as it is");

  const Folded mixed =
      run_plan(R"({"rules": [{"match": "0.mlp.up_proj", "method": "rtn"}]})", {"layers.0.*"});
  EXPECT_EQ(mixed.details.at(layer + "mlp.gate_proj").at("why_not"),
            "its input is also read by " + layer + "mlp.up_proj, which gets rtn");
  EXPECT_EQ(mixed.details.at(layer + "mlp.down_proj").at("why_not"),
            "its input is made by " + layer + "mlp.up_proj, which gets rtn");
  EXPECT_FALSE(mixed.details.at(layer + "mlp.up_proj").contains("scaling"));
  EXPECT_FALSE(mixed.replaced.contains(layer + "post_attention_layernorm.weight"));
  EXPECT_TRUE(mixed.replaced.contains(layer + "input_layernorm.weight"));
  // rtn's module is what it is alone.
  const Folded alone = run_plan(R"({"rules": [{"match": "0.mlp.up_proj", "method": "rtn"}]})",
                                {"0.mlp.up_proj", "0.mlp.down_proj"});
  EXPECT_EQ(read_floats(mixed.weights.at(layer + "mlp.up_proj").view(), "up"),
            read_floats(alone.weights.at(layer + "mlp.up_proj").view(), "up"));

  const Folded off =
      run_plan(R"({"rules": [{"match": "k_proj", "scale_channels": false}]})", {"layers.0.*"});
  EXPECT_FALSE(off.replaced.contains(layer + "input_layernorm.weight"));
}

TEST(InputScaling, SameBitsAtAnyNumberOfThreads) {
  std::vector<std::string> results;
  for (const int count : {1, 2, 7}) {
    const Folded awq = run_plan("{}", {"layers.*"}, Threads(count));
    std::string all;
    for (const auto* tensors : {&awq.weights, &awq.replaced}) {
      for (const auto& [name, tensor] : *tensors) all += name + hash_hex(tensor.view().bytes);
    }
    EXPECT_TRUE(awq.replaced.contains("model.layers.1.input_layernorm.weight"));
    EXPECT_TRUE(awq.replaced.contains("model.layers.1.self_attn.v_proj.bias"));
    results.push_back(all);
  }
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
}

// The survey sees what calibration sees in a block that nobody has touched (which keeps activations
// in 16 bits), and leaves the stream as it was.
TEST(Survey, SeesWhatCalibrationSees) {
  const std::string name = "tests/golden/model/qwen2";
  const auto model = load(std::make_shared<DemoSource>(name), name);
  const CalibrationSet set = random_windows(9, 24, model->config().vocab);
  ResidualStream stream(*model, set);
  const Survey survey = survey_block(*model, 0, stream, {0, 1, 2, 3});
  const Survey again = survey_block(*model, 0, stream, {2});
  CalibrationMemory memory(*model, set);
  BlockCalibration block(*model, 0, stream, nullptr, memory);
  for (size_t group = 0; group < block.groups().size(); ++group) {
    const Moments& seen = block.observe(group, {true, false, false});
    const SurveyedGroup& found = survey.at(group);
    EXPECT_EQ(found.moments.tokens, seen.tokens);
    const auto size = static_cast<int64_t>(found.moments.input_magnitude.size());
    for (int64_t i = 0; i < size; ++i) {
      const double square = seen.hessian.data[i * size + i];
      for (int64_t j = 0; j < size; ++j) {
        const double scale = std::sqrt(square * seen.hessian.data[j * size + j]);
        ASSERT_NEAR(found.moments.hessian.data[i * size + j], seen.hessian.data[i * size + j],
                    2e-3 * scale);
      }
      // The mean of |x| lies between 0 and the root of the mean of x^2; near 0.8 of it for normal
      // values.
      const double share = found.moments.input_magnitude[static_cast<size_t>(i)] /
                           std::sqrt(square / static_cast<double>(seen.tokens));
      EXPECT_GT(share, 0.3);
      EXPECT_LE(share, 1.01);
    }
  }
  EXPECT_EQ(again.at(2).moments.input_magnitude, survey.at(2).moments.input_magnitude);
}

}  // namespace
}  // namespace qwb
