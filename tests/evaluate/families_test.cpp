// Every family that this build reads, through every method: quantized, saved as an artifact, loaded
// again, its logits are those of the dequantized weights. A product with packed codes and one with
// the floats that they stand for differ in the order of sums; a wrong code, scale, name or
// orientation moves logits by a hundredth and more.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "formats/registry.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/model/model.h"
#include "lib/quantize/pipeline.h"
#include "tests/evaluate/artifact_helper.h"

namespace qwb {
namespace {

const Path kTinyModels = Path(QWB_SOURCE_DIR) / "tests/golden/model";
constexpr int64_t kFamilyTokens = 17;

std::vector<std::string> families() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kTinyModels)) {
    const std::string name = entry.path().filename().string();
    // Not what differs from another in its frequencies alone.
    const bool variant = name.ends_with("_linear") || name.ends_with("_llama3") ||
                         name.ends_with("_yarn") || name.ends_with("_longrope");
    if (!variant) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The same tensors; what is quantized is there as floats.
class AsFloats : public TensorSource {
 public:
  explicit AsFloats(std::shared_ptr<const TensorSource> source) : source_(std::move(source)) {
    for (const std::string& module : source_->quantized_modules()) {
      const LoadedWeight loaded = source_->load_quantized(module);
      const Weight& weight = loaded.weight;
      Tensor floats(DType::f32, {weight.rows(), weight.columns()});
      dequantize(weight, floats.data<float>());
      const Tensor& kept = floats_.emplace(module, std::move(floats)).first->second;
      weights_.emplace(module,
                       Weight(weight.out, weight.in, weight.orientation, DenseWeight{kept.view()}));
    }
  }
  std::optional<TensorView> find(const std::string& name) const override {
    return source_->find(name);
  }
  std::vector<std::string> names() const override { return source_->names(); }
  std::vector<std::string> quantized_modules() const override {
    return source_->quantized_modules();
  }
  std::optional<Weight> quantized(const std::string& module) const override {
    const auto it = weights_.find(module);
    return it == weights_.end() ? std::nullopt : std::optional(it->second);
  }

 private:
  std::shared_ptr<const TensorSource> source_;
  std::map<std::string, Tensor> floats_;
  std::map<std::string, Weight> weights_;
};

// Enough tokens for every expert of the tiny models.
CalibrationSet windows_of(const Model& model) {
  CalibrationSet windows;
  windows.length = 24;
  Rng rng(3);
  for (auto& window : windows.windows = std::vector<std::vector<int32_t>>(6)) {
    for (int64_t t = 0; t < windows.length; ++t)
      window.push_back(
          static_cast<int32_t>(rng.below(static_cast<uint64_t>(model.config().vocab))));
  }
  return windows;
}

// One thread: the models are tiny.
std::shared_ptr<const Model> load_tiny(std::shared_ptr<const TensorSource> source,
                                       const Json& config) {
  return Model::load(std::move(source), config, "tiny",
                     make_executor(ExecutorKind::fast, Threads(1)));
}

std::vector<float> logits_of(const Model& model) {
  std::vector<int32_t> tokens;
  for (int64_t t = 0; t < kFamilyTokens; ++t)
    tokens.push_back(static_cast<int32_t>((7 * t + 3) % model.config().vocab));
  KvCache cache = model.new_cache(kFamilyTokens);
  std::vector<float> hidden(static_cast<size_t>(kFamilyTokens * model.config().hidden));
  std::vector<float> logits(static_cast<size_t>(kFamilyTokens * model.config().vocab));
  const Out states(hidden.data(), kFamilyTokens, model.config().hidden);
  model.forward(tokens, cache, states);
  model.logits(states, Out(logits.data(), kFamilyTokens, model.config().vocab));
  return logits;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  return difference / largest;
}

class Families : public ::testing::TestWithParam<std::string> {};

TEST_P(Families, QuantizedSavedAndLoadedAreTheirDequantizedWeights) {
  const testing::Scratch scratch("families_" + GetParam());
  const Path folder = kTinyModels / GetParam();
  const OpenModel open = open_model(folder);
  const auto model = load_tiny(open.source, open.config);
  const std::vector<float> original = logits_of(*model);
  const CalibrationSet windows = windows_of(*model);
  const std::pair<const char*, Json> runs[] = {{"rtn", {{"group_size", 8}}},
                                               {"nf4", {{"block_size", 16}}},
                                               {"gptq", {{"group_size", 8}}},
                                               {"awq", {{"group_size", 8}}}};
  int run = 0;
  for (const auto& [method, given] : runs) {
    SCOPED_TRACE(std::string(method) + " " + given.dump());
    const Path target = scratch.path() / std::to_string(run++);
    const size_t modules =
        testing::write_quantized(open, *model, find_method(method), given, &windows, target);
    EXPECT_GT(modules, 3u);
    const OpenModel saved = open_model(target);
    EXPECT_EQ(saved.source->quantized_modules().size(), modules);
    const auto packed = load_tiny(saved.source, saved.config);
    const auto floats = load_tiny(std::make_shared<AsFloats>(saved.source), saved.config);
    const std::vector<float> logits = logits_of(*packed);
    EXPECT_LT(largest_difference(logits, logits_of(*floats)), 2e-5);
    // And it was this model that was quantized.
    EXPECT_LT(largest_difference(logits, original), 0.9);
    EXPECT_GT(largest_difference(logits, original), 1e-4);
  }
}

INSTANTIATE_TEST_SUITE_P(SlowModels, Families, ::testing::ValuesIn(families()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace qwb
