// Every method on a device whose memory faults outside of operations
// (tests/exec/shadow_helper.h): whole models get the processor's bits.
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <set>

#include "lib/base/json.h"
#include "lib/quantize/pipeline.h"
#include "lib/quantize/plan/estimate.h"
#include "tests/exec/shadow_calibration_helper.h"
#include "tests/quantize/demo_helper.h"

namespace qwb {
namespace {

// All that a run gives, by name.
struct ShadowSink : ModuleSink {
  void put(const PlannedModule& module, const QuantizedTensor& tensor,
           const ModuleReport& report) override {
    all[module.info.name] = digest(tensor) + report.details.dump() +
                            Json(report.output_error.value_or(-1)).dump() +
                            Json(report.weight_error).dump();
  }
  void replace(const std::string& tensor, const TensorView& values) override {
    all[tensor] = Json(read_floats(values, tensor)).dump();
  }
  std::map<std::string, std::string> all;
};

struct ShadowRun {
  std::string name;
  const char* model;
  const char* method;
  Json settings = Json::object();
  ExecutorKind kind = ExecutorKind::fast;
  bool on_disk = false;
  bool estimated = false;  // the time is estimated as well
};

std::map<std::string, std::string> quantized_on(const ShadowRun& run,
                                                std::shared_ptr<const Executor> executor) {
  const std::string name = std::string("tests/golden/model/") + run.model;
  const auto model =
      Model::load(std::make_shared<DemoSource>(name), demo_config(name), name, std::move(executor));
  const Method& method = find_method(run.method);
  const Plan plan = plan_modules(*model, method, resolve_settings(method, run.settings));
  const CalibrationSet windows = random_windows(6, 20, model->config().vocab);
  const CalibrationSet* calibration = plan.needs_calibration() ? &windows : nullptr;
  RunOptions options;
  if (run.on_disk) options.kept_scratch = options.stream_scratch = testing::TempDir();
  ShadowSink sink;
  quantize_model(*model, plan, calibration, sink, {.threads = Threads(2)}, options);
  if (run.estimated) {
    EXPECT_GT(estimate_seconds(*model, plan, calibration, {.threads = Threads(2)}), 0);
  }
  return sink.all;
}

class QuantizedOnTheShadow : public testing::TestWithParam<ShadowRun> {};

TEST_P(QuantizedOnTheShadow, GetsTheProcessorsBits) {
  const ShadowRun run = GetParam();
  std::mutex mutex;
  std::set<std::string> seen;
  const auto note = [&](const std::string& operation) {
    const std::lock_guard lock(mutex);
    seen.insert(operation);
  };
  const auto there = quantized_on(
      run, std::make_shared<ShadowCalibration>(make_executor(run.kind, Threads(2)), note));
  EXPECT_EQ(there, quantized_on(run, make_executor(run.kind, Threads(2))));
  EXPECT_FALSE(there.empty());
  const bool calibrated = find_method(run.method).needs_calibration();
  EXPECT_EQ(seen.contains("moments"), calibrated);
  EXPECT_EQ(seen.contains("gptq_rows"), std::string(run.method) == "gptq");
  EXPECT_EQ(seen.contains("clip_rows"), std::string(run.method) == "awq");
}

INSTANTIATE_TEST_SUITE_P(
    Methods, QuantizedOnTheShadow,
    testing::Values(
        ShadowRun{"rtn", "qwen2", "rtn", {{"group_size", 16}}}, ShadowRun{"int8", "qwen2", "int8"},
        ShadowRun{"nf4", "qwen2", "nf4"}, ShadowRun{"fp4", "qwen2", "fp4"},
        ShadowRun{"gptq_off", "llama", "gptq", {{"group_size", 16}, {"refine", "off"}}},
        ShadowRun{"gptq_codes", "mistral", "gptq", {{"group_size", 16}, {"refine", "codes"}}},
        ShadowRun{"gptq_full_bf16",
                  "qwen2",
                  "gptq",
                  {{"group_size", 16}},
                  ExecutorKind::bf16,
                  false,
                  true},
        ShadowRun{"gptq_act_order", "qwen3", "gptq", {{"group_size", 16}, {"act_order", true}}},
        ShadowRun{"gptq_biases", "gpt2", "gptq", {{"group_size", 16}, {"symmetric", false}}},
        ShadowRun{"gptq_experts_on_disk",
                  "mixtral",
                  "gptq",
                  {{"group_size", 16}},
                  ExecutorKind::fast,
                  true},
        ShadowRun{"gptq_gemma", "gemma2", "gptq", {{"group_size", 16}}},
        ShadowRun{"gptq_olmo2", "olmo2", "gptq", {{"group_size", 16}}},
        ShadowRun{"gptq_granite", "granite", "gptq", {{"group_size", 8}}},
        ShadowRun{"gptq_phi3", "phi3", "gptq", {{"group_size", 8}}},
        ShadowRun{"gptq_cohere", "cohere", "gptq", {{"group_size", 8}}},
        ShadowRun{"awq_cohere", "cohere2", "awq", {{"group_size", 8}}},
        ShadowRun{"awq_phi3", "phi3", "awq", {{"group_size", 8}}},
        ShadowRun{"nf4_glm4", "glm4", "nf4"},
        ShadowRun{"gptq_neox", "gpt_neox", "gptq", {{"group_size", 8}}},
        ShadowRun{"awq_opt", "opt", "awq", {{"group_size", 8}}},
        ShadowRun{"rtn_falcon", "falcon_40b", "rtn", {{"group_size", 8}}},
        ShadowRun{"nf4_bloom", "bloom", "nf4"},
        ShadowRun{"gptq_shared_expert", "qwen2_moe", "gptq", {{"group_size", 8}}},
        ShadowRun{"awq_shared_expert", "qwen2_moe", "awq", {{"group_size", 8}}},
        ShadowRun{"awq", "qwen2", "awq", {{"group_size", 16}}, ExecutorKind::fast, false, true},
        ShadowRun{"awq_unscaled",
                  "gpt2",
                  "awq",
                  {{"group_size", 16}, {"scale_channels", false}},
                  ExecutorKind::bf16}),
    [](const auto& case_) { return case_.param.name; });

// What the tests above rest on: a method that looks at the moments itself ends here.
TEST(MomentsOnTheShadow, AreOutOfReach) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const std::string name = "tests/golden/model/qwen2";
  const auto model = Model::load(
      std::make_shared<DemoSource>(name), demo_config(name), name,
      std::make_shared<ShadowCalibration>(make_executor(ExecutorKind::fast, Threads(1))));
  const CalibrationSet windows = random_windows(2, 8, model->config().vocab);
  ResidualStream stream(*model, windows);
  CalibrationMemory memory(*model, windows);
  BlockCalibration block(*model, 0, stream, nullptr, memory);
  const Moments& moments = block.observe(0, {true, false, false});
  EXPECT_EQ(moments.tokens, 16);
  EXPECT_DEATH(EXPECT_EQ(*static_cast<const volatile float*>(moments.hessian.data), 2.0f), "");
}

}  // namespace
}  // namespace qwb
