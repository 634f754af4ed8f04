// Plans at work: mixed methods in one run, embeddings, and what the modules behind see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/hash.h"
#include "lib/quantize/pipeline.h"
#include "lib/quantize/plan/estimate.h"
#include "tests/quantize/demo_helper.h"

namespace qwb {
namespace {

using ::testing::HasSubstr;

struct Collected : ModuleSink {
  void put(const PlannedModule& module, const QuantizedTensor& tensor,
           const ModuleReport& report) override {
    digests[module.info.name] = digest(tensor);
    reports[module.info.name] = report;
    order.push_back(module.info.name);
    tensors.emplace(module.info.name, copy_of(tensor));
  }
  void replace(const std::string& tensor, const TensorView& values) override {
    replaced[tensor] = hash_hex(values.bytes);
  }
  std::map<std::string, std::string> replaced;
  std::map<std::string, std::string> digests;
  std::map<std::string, ModuleReport> reports;
  std::map<std::string, QuantizedTensor> tensors;
  std::vector<std::string> order;
};

std::unique_ptr<Model> load(const std::string& name, bool tied = false) {
  Json config = demo_config(name);
  if (tied) config["tie_word_embeddings"] = true;
  return Model::load(std::make_shared<DemoSource>(name), config, name);
}

Collected run(const Model& model, const std::string& method, const std::string& file,
              std::vector<std::string> include = {}) {
  const PlanFile plan = parse_plan(file, "plan.json");
  PlanRequest request;
  request.method = &find_method(method);
  request.given = plan.given;
  request.include = std::move(include);
  request.output_embedding = plan.output_embedding;
  request.embeddings = plan.embeddings;
  request.rules = plan.rules;
  const Plan planned = plan_modules(model, request);
  const CalibrationSet set = random_windows(4, 64, model.config().vocab);
  Collected sink;
  quantize_model(model, planned, planned.needs_calibration() ? &set : nullptr, sink, Context());
  EXPECT_EQ(sink.order.size(), planned.modules.size());
  for (size_t i = 0; i < sink.order.size(); ++i)
    EXPECT_EQ(sink.order[i], planned.modules[i].info.name);
  return sink;
}

constexpr const char* kFirstDown = "model.layers.0.mlp.down_proj";
constexpr const char* kUp = "model.layers.0.mlp.up_proj";

TEST(SlowPlanRun, EveryMethodAtItsPlaceAndSeenByThoseBehind) {
  const auto model = load("llama");
  const Collected alone = run(*model, "gptq", "{}", {"layers.0.mlp.down_proj"});
  for (const char* method : {"rtn", "int8", "nf4", "none"}) {
    const std::string rule =
        R"({"rules": [{"match": "0.mlp.up_proj", "method": ")" + std::string(method) + "\"}]}";
    const Collected mixed = run(*model, "gptq", rule, {"layers.0.mlp.*"});
    // What needs no calibration is what it is without it, and its effect on the output is known all
    // the same.
    const Collected plain = run(*model, method, "{}", {kUp});
    EXPECT_EQ(mixed.digests.at(kUp), plain.digests.at(kUp)) << method;
    EXPECT_FALSE(plain.reports.at(kUp).output_error);
    ASSERT_TRUE(mixed.reports.at(kUp).output_error) << method;
    EXPECT_GE(*mixed.reports.at(kUp).output_error, 0);
    EXPECT_LT(*mixed.reports.at(kUp).output_error, 0.05);
    EXPECT_NE(mixed.digests.at(kFirstDown), alone.digests.at(kFirstDown)) << method;
  }
  // With gate left alone and up copied bit by bit nothing before down has changed.
  const Collected copied =
      run(*model, "gptq", R"({"rules": [{"match": "0.mlp.up_proj", "method": "none"}]})",
          {kUp, kFirstDown});
  EXPECT_EQ(copied.digests.at(kFirstDown), alone.digests.at(kFirstDown));
  EXPECT_EQ(copied.reports.at(kUp).output_error, 0);
}

TEST(PlanRun, SettingsOfEachModuleAreItsOwn) {
  const auto model = load("gpt2");
  const Collected mixed = run(*model, "gptq", R"({"default": {"bits": 4, "group_size": 64},
      "rules": [{"match": "h.0.attn.*", "bits": 8}, {"match": "h.0.mlp.c_fc", "method": "nf4"},
                {"match": "h.0.mlp.c_proj", "bits": 2, "symmetric": false}]})",
                              {"h.0.*", "h.1.attn.*"});
  EXPECT_EQ(mixed.tensors.at("transformer.h.0.attn.c_attn").code_bits(), 8);
  EXPECT_EQ(mixed.tensors.at("transformer.h.0.mlp.c_fc").codec(), "float-blocks");
  EXPECT_EQ(mixed.tensors.at("transformer.h.0.mlp.c_proj").code_bits(), 2);
  EXPECT_TRUE(mixed.tensors.at("transformer.h.0.mlp.c_proj").parts.contains("zeros"));
  EXPECT_EQ(mixed.tensors.at("transformer.h.1.attn.c_attn").code_bits(), 4);
  // A bias makes up for the mean of what its module loses, where the method asks for that.
  EXPECT_TRUE(mixed.replaced.contains("transformer.h.0.attn.c_attn.bias"));
  EXPECT_FALSE(mixed.replaced.contains("transformer.h.0.mlp.c_fc.bias"));
  // nf4 keeps [in, out] here: its output error is that of the right orientation.
  EXPECT_LT(*mixed.reports.at("transformer.h.0.mlp.c_fc").output_error, 0.5);
  EXPECT_LT(mixed.reports.at("transformer.h.0.attn.c_attn").weight_error,
            0.02 * mixed.reports.at("transformer.h.1.attn.c_attn").weight_error);
}

TEST(SlowPlanRun, TheOutputEmbeddingIsCalibratedOnTheFinalNorm) {
  const auto model = load("llama");
  const char* rules = R"({"default": {"bits": 3}, "lm_head": true,
                          "rules": [{"match": "lm_head", "method": "%"}]})";
  const auto with = [&](const std::string& method) {
    std::string text = rules;
    text.replace(text.find('%'), 1, method);
    return run(*model, "gptq", text, {"layers.7.mlp.down_proj"});
  };
  const Collected gptq = with("gptq"), rtn = with("rtn");
  EXPECT_EQ(rtn.reports.at("lm_head").weights, 4096 * 256);
  // On the right inputs second-order compensation beats rounding by far; on wrong ones it would
  // not.
  EXPECT_LT(*gptq.reports.at("lm_head").output_error,
            0.8 * *rtn.reports.at("lm_head").output_error);
  EXPECT_GT(gptq.reports.at("lm_head").weight_error, rtn.reports.at("lm_head").weight_error);
}

TEST(SlowPlanRun, TheStreamBeginsAtTheStoredEmbedding) {
  for (const bool tied : {false, true}) {
    const auto model = load("llama", tied);
    const char* first = "model.layers.0.self_attn.q_proj";
    const Collected without = run(*model, "gptq", "{}", {first});
    const Collected coarse =
        run(*model, "gptq", R"({"rules": [{"match": "embed_tokens", "method": "rtn", "bits": 2}]})",
            {first});
    const Collected copied =
        run(*model, "gptq", R"({"rules": [{"match": "embed_tokens", "method": "none"}]})", {first});
    EXPECT_NE(coarse.digests.at(first), without.digests.at(first));
    EXPECT_EQ(copied.digests.at(first), without.digests.at(first));
    EXPECT_EQ(coarse.order.front(), "model.embed_tokens");
  }
}

// A quantized embedding runs as its dequantized values would, for the lookup and, tied, for the
// logits.
TEST(PlanRun, AQuantizedEmbeddingRunsLikeItsValues) {
  for (const char* name : {"llama", "gpt2"}) {
    const auto original = load(name);
    const std::string module = original->spec().embedding;
    for (const char* method : {"rtn", "int8", "nf4", "fp4"}) {
      Collected sink = run(*original, method, R"({"embeddings": true})", {module});
      const auto quantized = std::make_shared<DemoSource>(name),
                 dense = std::make_shared<DemoSource>(name);
      const QuantizedTensor& tensor = sink.tensors.at(module);
      dense->tensors.emplace(module + ".weight",
                             make_tensor(dequantize(tensor), {tensor.out, tensor.in}));
      quantized->modules.emplace(module, std::move(sink.tensors.at(module)));
      const std::vector<int32_t> tokens = {1, 77, 4095, 300, 8};
      std::vector<std::vector<float>> logits;
      for (const auto& source : {quantized, dense}) {
        const auto model = Model::load(source, demo_config(name), name);
        KvCache cache = model->new_cache(8);
        const Matrix hidden = model->executor().allocate(5, model->config().hidden);
        logits.emplace_back(static_cast<size_t>(5 * model->config().vocab));
        model->forward(tokens, cache, hidden);
        model->logits(hidden, Out(logits.back().data(), 5, model->config().vocab));
      }
      // Products of small shapes may take another path for quantized weights: other order of f32
      // sums.
      for (size_t i = 0; i < logits[0].size(); ++i)
        ASSERT_NEAR(logits[0][i], logits[1][i], 1e-4 * (1 + std::abs(logits[1][i])))
            << name << " " << method;
    }
  }
}

// One batch and two are tried, of whatever windows there are: one, or more than three batches.
TEST(PlanRun, TimeIsEstimatedFromAnyNumberOfWindows) {
  const auto model = load("gpt2");
  const Method& gptq = find_method("gptq");
  const Plan plan = plan_modules(*model, gptq, resolve_settings(gptq, {{"group_size", 64}}));
  const CalibrationSet one = random_windows(1, 64, model->config().vocab),
                       many = random_windows(600, 64, model->config().vocab);
  const double seconds = estimate_seconds(*model, plan, &one);
  EXPECT_GT(seconds, 0);
  EXPECT_GT(estimate_seconds(*model, plan, &many), seconds);
}

TEST(PlanRun, ACalibrationSetExactlyWhenNeeded) {
  const auto model = load("gpt2");
  Collected sink;
  const CalibrationSet set = random_windows(1, 8, 4096);
  const Method &rtn = find_method("rtn"), &gptq = find_method("gptq");
  const Plan plain = plan_modules(*model, rtn, resolve_settings(rtn, Json::object()));
  const Plan calibrated = plan_modules(*model, gptq, resolve_settings(gptq, Json::object()));
  EXPECT_THROW(quantize_model(*model, plain, &set, sink, Context()), Error);
  EXPECT_THROW(quantize_model(*model, calibrated, nullptr, sink, Context()), Error);
}

}  // namespace
}  // namespace qwb
