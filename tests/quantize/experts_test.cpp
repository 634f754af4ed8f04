// Models whose blocks are not Llama's, through whole calibrated runs: experts (Mixtral) and norms
// on both sides of a mixer (Gemma 2). How well a method does is asked of the model's output, not of
// its own reports.
#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/quantize/pipeline.h"
#include "tests/quantize/demo_helper.h"

namespace qwb {
namespace {

constexpr int64_t kWindow = 64;

struct Kept : ModuleSink {
  void put(const PlannedModule& module, const QuantizedTensor& tensor,
           const ModuleReport& report) override {
    modules.emplace(module.info.name, copy_of(tensor));
    reports[module.info.name] = report;
  }
  void replace(const std::string&, const TensorView&) override {}
  std::map<std::string, QuantizedTensor> modules;
  std::map<std::string, ModuleReport> reports;
};

std::unique_ptr<Model> load_tiny(const std::string& name,
                                 std::map<std::string, QuantizedTensor> modules = {}) {
  auto source = std::make_shared<DemoSource>(name);
  source->modules = std::move(modules);
  return Model::load(source, demo_config(name), name);
}

Kept quantized(const std::string& name, const std::string& method, const Json& given,
               int64_t windows, int64_t length = kWindow) {
  const auto model = load_tiny(name);
  const Plan plan = plan_modules(*model, find_method(method), given);
  const CalibrationSet set = random_windows(windows, length, model->config().vocab);
  Kept sink;
  quantize_model(*model, plan, plan.needs_calibration() ? &set : nullptr, sink, Context());
  return sink;
}

std::vector<float> outputs(const Model& model) {
  const CalibrationSet set = random_windows(6, kWindow, model.config().vocab);
  std::vector<float> all;
  for (const auto& window : set.windows) {
    KvCache cache = model.new_cache(kWindow);
    std::vector<float> hidden(static_cast<size_t>(kWindow * model.config().hidden));
    model.forward(window, cache, Out(hidden.data(), kWindow, model.config().hidden));
    all.insert(all.end(), hidden.begin(), hidden.end());
  }
  return all;
}

// |a - b|^2 / |b|^2
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, whole = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    whole += std::pow(static_cast<double>(b[i]), 2);
  }
  return difference / whole;
}

class OtherBlocks : public testing::TestWithParam<std::string> {};

TEST_P(OtherBlocks, CalibrationBeatsRounding) {
  const std::string name = "tests/golden/model/" + GetParam();
  const std::vector<float> original = outputs(*load_tiny(name));
  const Json settings = {{"bits", 4}, {"group_size", -1}};
  std::map<std::string, double> lost;
  for (const std::string method : {"rtn", "gptq", "awq"}) {
    Kept kept = quantized(name, method, settings, 24);
    for (const auto& [module, report] : kept.reports) {
      EXPECT_EQ(module.find("block_sparse_moe.gate"), std::string::npos)
          << "a router was quantized";
      EXPECT_TRUE(std::isfinite(report.output_error.value_or(0))) << module;
    }
    if (method == "awq") continue;  // scales left its norms, which this sink does not keep
    lost[method] = distance(outputs(*load_tiny(name, std::move(kept.modules))), original);
  }
  EXPECT_GT(lost.at("rtn"), 0);
  EXPECT_LT(lost.at("gptq"), 0.8 * lost.at("rtn"));
}

INSTANTIATE_TEST_SUITE_P(SlowModels, OtherBlocks, testing::Values("mixtral", "gemma2"),
                         [](const auto& test) { return test.param; });

// Two tokens reach four of six experts at most.
TEST(Experts, OneThatSawNoTokenIsNamed) {
  try {
    quantized("tests/golden/model/mixtral", "gptq", {{"bits", 4}, {"group_size", -1}}, 1, 2);
    FAIL() << "quantized from nothing";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::failed);
    EXPECT_NE(std::string(error.what()).find("block_sparse_moe.experts."), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("no calibration token"), std::string::npos);
  }
}

TEST(Experts, ARouterIsQuantizedWhereItIsNamed) {
  const auto model = load_tiny("tests/golden/model/mixtral");
  PlanRequest request;
  request.method = &find_method("rtn");
  request.given = {{"bits", 8}, {"group_size", -1}};
  request.include = {"model.layers.0.block_sparse_moe.gate", "layers.1.*"};
  const Plan plan = plan_modules(*model, request);
  std::vector<std::string> routers;
  for (const PlannedModule& module : plan.modules) {
    if (module.info.name.ends_with("moe.gate")) routers.push_back(module.info.name);
  }
  EXPECT_EQ(routers, std::vector<std::string>{"model.layers.0.block_sparse_moe.gate"});
}

}  // namespace
}  // namespace qwb
