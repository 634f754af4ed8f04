// AWQ at work on a whole block of every architecture, on what the block really sees: what comes out
// of it is nearer to the original's than after plain rounding, whichever of its modules are chosen.
#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/rng.h"
#include "lib/quantize/pipeline.h"
#include "tests/exec/executor_helper.h"
#include "tests/quantize/demo_helper.h"

namespace qwb {
namespace {

using Words = std::vector<std::string>;

// A finished run as a source of tensors.
struct AwqRun : ModuleSink {
  explicit AwqRun(const std::string& name) : source(std::make_shared<DemoSource>(name)) {}
  void put(const PlannedModule& module, const QuantizedTensor& tensor,
           const ModuleReport& report) override {
    reports[module.info.name] = report;
    source->modules.emplace(module.info.name, copy_of(tensor));
  }
  void replace(const std::string& name, const TensorView& values) override {
    source->tensors.emplace(name, make_tensor(read_floats(values, name), values.shape));
  }
  std::shared_ptr<DemoSource> source;
  std::map<std::string, ModuleReport> reports;
};

std::unique_ptr<Model> model_of(const std::shared_ptr<DemoSource>& source,
                                const std::string& name) {
  return Model::load(source, demo_config(name), name,
                     make_executor(ExecutorKind::reference, Threads(1)));
}

CalibrationSet block_windows(const Model& model) {
  CalibrationSet set;
  set.length = 48;
  Rng rng(11);
  for (int64_t w = 0; w < 4; ++w) {
    set.windows.emplace_back();
    for (int64_t t = 0; t < set.length; ++t)
      set.windows.back().push_back(
          static_cast<int32_t>(rng.below(static_cast<uint64_t>(model.config().vocab))));
  }
  return set;
}

// What block 0 makes of all windows.
std::vector<float> block_outputs(const Model& model) {
  const CalibrationSet set = block_windows(model);
  const ModelConfig& c = model.config();
  const Block block(c, model.spec().blocks[0], 0, model.source(), model.executor());
  const RotaryTable rotary(model.executor(), c.rope, 0, set.length);
  std::vector<float> all;
  for (const auto& window : set.windows) {
    std::vector<float> x(static_cast<size_t>(set.length * c.hidden));
    const Matrix keys = model.executor().allocate(set.length, c.kv_heads * c.head_dim),
                 values = model.executor().allocate(set.length, c.kv_heads * c.head_dim);
    const Out stream(x.data(), set.length, c.hidden);
    model.embed(window, 0, stream);
    block.forward(stream, {set.length, rotary, {keys, values, 0}});
    all.insert(all.end(), x.begin(), x.end());
  }
  return all;
}

struct BlockOutcome {
  double error = 0;  // |output - original's output|^2 over all windows
  AwqRun result;
};

BlockOutcome block_outcome(const std::string& name, const std::string& method, const Json& given,
                           const Words& include) {
  const auto model = model_of(std::make_shared<DemoSource>(name), name);
  PlanRequest request;
  request.method = &find_method(method);
  request.given = given;
  request.include = include;
  const Plan plan = plan_modules(*model, request);
  const CalibrationSet set = block_windows(*model);
  BlockOutcome outcome{0, AwqRun(name)};
  quantize_model(*model, plan, method == "rtn" ? nullptr : &set, outcome.result, Context());
  const std::vector<float> before = block_outputs(*model),
                           after = block_outputs(*model_of(outcome.result.source, name));
  for (size_t i = 0; i < before.size(); ++i) {
    const double difference = static_cast<double>(after[i]) - before[i];
    outcome.error += difference * difference;
  }
  return outcome;
}

class AwqBlock : public testing::TestWithParam<const char*> {};

TEST_P(AwqBlock, NearerToTheOriginalThanRounding) {
  const std::string name = "tests/golden/model/" + std::string(GetParam());
  const bool gpt2 = std::string(GetParam()).starts_with("gpt2");
  const std::vector<Words> selections =
      gpt2 ? std::vector<Words>{{"h.0.*"}, {"h.0.attn.*"}, {"h.0.mlp.c_proj"}}
           : std::vector<Words>{{"layers.0.*"},
                                {"0.self_attn.*"},
                                {"0.mlp.*"},
                                {"0.self_attn.q_proj", "0.self_attn.o_proj", "0.mlp.down_proj"},
                                {"0.self_attn.v_proj", "0.self_attn.o_proj", "0.mlp.up_proj"}};
  for (const Words& include : selections) {
    const Json grid = {{"bits", 3}, {"group_size", 16}, {"symmetric", false}};
    const BlockOutcome awq = block_outcome(name, "awq", grid, include),
                       rtn = block_outcome(name, "rtn", grid, include);
    EXPECT_GT(awq.error, 0);
    EXPECT_LT(awq.error, 0.9 * rtn.error) << include.front();
  }
}

INSTANTIATE_TEST_SUITE_P(SlowModels, AwqBlock,
                         testing::Values("llama", "mistral", "qwen2", "qwen3", "gpt2",
                                         "gpt2_scaled"),
                         [](const auto& model) { return std::string(model.param); });

}  // namespace
}  // namespace qwb
