// The tape: its losses are the model's, its gradients are those of a loss in f64 (central
// differences), on every architecture and codec, with packed documents, whatever is recomputed.
//
// Tolerances. The derivative of the f64 loss along a direction is good to 1e-9. The tape's values
// are f32: with sums in f64 (the reference executor) each of some hundred roundings of 6e-8 is
// passed on by a small model without growing much, 2e-5 of the derivative's size; sums in f32 as
// the fast executor makes them, 1e-4. Leaving out any term moves the derivative by percents.
#include "lib/model/tape/taped_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/model/model.h"
#include "tests/exec/executor_helper.h"
#include "tests/exec/shadow_helper.h"
#include "tests/exec/weights_helper.h"
#include "tests/model/f64_model_helper.h"

namespace qwb {
namespace {

OpenModel open_taped_golden(const std::string& name) {
  return open_model(Path(QWB_SOURCE_DIR) / "tests/golden/model" / name);
}

// Three documents, loss on most rows.
TrainingRows some_rows(int64_t vocabulary = 96) {
  const auto tokens = static_cast<int>(vocabulary);
  TrainingRows rows;
  rows.documents = {13, 1, 7};
  for (int i = 0; i < 21; ++i) {
    rows.tokens.push_back(i * 37 % tokens);
    rows.keys.push_back(static_cast<uint64_t>(i) + 100);
    if (i % 4 != 1)
      rows.targets.push_back({i, (i * 29 + 3) % tokens, 0.1f + 0.05f * static_cast<float>(i % 3)});
  }
  return rows;
}

// Random factors beside every module of a model.
class Trained {
 public:
  Trained(TapedModel& model, int64_t rank) : executor_(model.executor()) {
    uint64_t seed = 1;
    for (const LinearSpec& spec : model.modules()) {
      auto made = std::make_unique<TrainedFactors>();
      made->module = spec.module;
      made->a = random(rank, spec.in, ++seed);
      made->b = random(spec.out, rank, ++seed);
      made->a_gradient = executor_.allocate(rank, spec.in);
      made->b_gradient = executor_.allocate(spec.out, rank);
      made->scale = 0.7f;
      made->number = seed;
      factors_.push_back(std::move(made));
      model.adapt(*factors_.back());
    }
    forget();
  }
  void forget() {
    for (const auto& one : factors_) {
      executor_.fill(one->a_gradient, 0);
      executor_.fill(one->b_gradient, 0);
    }
  }
  const std::vector<std::unique_ptr<TrainedFactors>>& all() const { return factors_; }
  std::vector<float> gradients() const {
    std::vector<float> all;
    for (const auto& one : factors_) {
      for (const Matrix* part : {&one->a_gradient, &one->b_gradient}) {
        const std::vector<float> values = executor_.download(*part);
        all.insert(all.end(), values.begin(), values.end());
      }
    }
    return all;
  }
  // Moved by `step` along a direction; the derivative along it by the gradients.
  AllFactors64 moved(double step) const {
    AllFactors64 moved;
    uint64_t seed = 1000;
    for (const auto& one : factors_) {
      Factors64& own = moved[one->module];
      own.a = moved_part(one->a, ++seed, step);
      own.b = moved_part(one->b, ++seed, step);
      own.scale = static_cast<double>(one->scale);
    }
    return moved;
  }
  double derivative() const {
    double sum = 0;
    uint64_t seed = 1000;
    for (const auto& one : factors_) {
      for (const Matrix* part : {&one->a_gradient, &one->b_gradient}) {
        const std::vector<float> values = executor_.download(*part);
        const std::vector<float> direction = noise(std::ssize(values), ++seed);
        for (size_t i = 0; i < values.size(); ++i)
          sum += static_cast<double>(values[i]) * static_cast<double>(direction[i]);
      }
    }
    return sum;
  }

 private:
  Matrix random(int64_t rows, int64_t columns, uint64_t seed) const {
    Matrix made = executor_.allocate(rows, columns);
    const std::vector<float> values = noise(rows * columns, seed, 0.3f);
    executor_.copy(In(values.data(), rows, columns), made);
    return made;
  }
  plain::Doubles moved_part(const Matrix& part, uint64_t seed, double step) const {
    plain::Doubles moved(part.rows(), part.columns());
    const std::vector<float> values = executor_.download(part);
    const std::vector<float> direction = noise(std::ssize(values), seed);
    for (size_t i = 0; i < values.size(); ++i)
      moved.values[i] = static_cast<double>(values[i]) + step * static_cast<double>(direction[i]);
    return moved;
  }
  const Executor& executor_;
  std::vector<std::unique_ptr<TrainedFactors>> factors_;
};

std::shared_ptr<const Executor> executor_of(ExecutorKind kind, int threads = 2) {
  return make_executor(kind, Threads(threads));
}

double weighted(const TrainingRows& rows, const std::vector<double>& losses) {
  double sum = 0;
  for (size_t i = 0; i < losses.size(); ++i)
    sum += static_cast<double>(rows.targets[i].factor) * losses[i];
  return sum;
}

// The gradients of the factors beside all modules against the f64 loss.
void expect_gradients(const std::shared_ptr<const TensorSource>& source, const Json& config,
                      ExecutorKind kind, double tolerance) {
  TapedModel model(source, config, "test", executor_of(kind));
  Trained trained(model, 3);
  const TrainingRows rows = some_rows(model.config().vocab);
  const Model64 exact(*source, model.config(), model.spec());
  const double sum = weighted(rows, model.gradients(rows, 1));
  EXPECT_NEAR(sum, exact.loss(rows, trained.moved(0)), 1e-5 * std::abs(sum));
  constexpr double kStep = 1e-5;
  const double expected =
      (exact.loss(rows, trained.moved(kStep)) - exact.loss(rows, trained.moved(-kStep))) /
      (2 * kStep);
  double size = 0;  // of all gradients
  for (const float value : trained.gradients())
    size += static_cast<double>(value) * static_cast<double>(value);
  ASSERT_GT(std::abs(expected), 0.01 * std::sqrt(size));
  EXPECT_NEAR(trained.derivative(), expected, tolerance * std::sqrt(size));
}

class TapeOf : public testing::TestWithParam<std::string> {};

TEST_P(TapeOf, GradientsAreThoseOfTheLossInF64) {
  const OpenModel open = open_taped_golden(GetParam());
  expect_gradients(open.source, open.config, ExecutorKind::reference, 2e-5);
  expect_gradients(open.source, open.config, ExecutorKind::fast, 1e-4);
}

TEST_P(TapeOf, LossesAreTheModels) {
  const OpenModel open = open_taped_golden(GetParam());
  const TapedModel taped(open.source, open.config, GetParam(), executor_of(ExecutorKind::fast));
  const auto model = Model::load(open.source, open.config, GetParam());
  const TrainingRows rows = some_rows(taped.config().vocab);
  const std::vector<double> losses = taped.losses(rows);
  size_t next = 0;
  int64_t first = 0;
  for (const int64_t count : rows.documents) {
    KvCache cache = model->new_cache(count);
    const Matrix hidden = model->executor().allocate(count, model->config().hidden);
    model->forward(std::span(rows.tokens).subspan(first, count), cache, hidden);
    for (; next < rows.targets.size() && rows.targets[next].row < first + count; ++next) {
      double expected = 0;
      model->token_losses(hidden.view().row_range(rows.targets[next].row - first, 1),
                          {&rows.targets[next].token, 1}, {&expected, 1});
      EXPECT_NEAR(losses[next], expected, 1e-5 * (1 + expected));
    }
    first += count;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, TapeOf,
                         testing::Values("llama", "llama_tied_head_dim", "llama_yarn",
                                         "llama_llama3", "mistral", "qwen2", "qwen3", "gpt2",
                                         "gpt2_scaled", "gemma2", "gemma3", "olmo2", "granite",
                                         "smollm3", "phi3", "phi3_longrope", "starcoder2",
                                         "stablelm", "glm4", "cohere", "cohere2", "mixtral",
                                         "qwen3_moe"),
                         [](const auto& one) { return one.param; });

// What the tape does not compute must not be left out of it silently.
TEST(Tape, OtherFamiliesAreRefusedByName) {
  const std::pair<const char*, const char*> refused[] = {{"gpt_neox", "groups of heads"},
                                                         {"falcon_7b", "groups of heads"},
                                                         {"falcon_11b", "groups of heads"},
                                                         {"gptj", "logits with a bias"},
                                                         {"bloom", "ALiBi"},
                                                         {"mpt", "ALiBi"},
                                                         {"opt", "an offset"},
                                                         {"olmoe", "not normalized"},
                                                         {"qwen2_moe", "share one"}};
  for (const auto& [name, what] : refused) {
    const OpenModel open = open_taped_golden(name);
    try {
      TapedModel(open.source, open.config, name, executor_of(ExecutorKind::fast));
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::unsupported) << name;
      EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
    }
  }
}

// A model whose modules are stored by a codec, with random codes.
class CodedSource : public TensorSource {
 public:
  CodedSource(std::shared_ptr<const TensorSource> base, std::string kind, const ModelSpec& spec)
      : base_(std::move(base)) {
    uint64_t seed = 50;
    for (const BlockSpec& block : spec.blocks) {
      for (const LinearSpec& linear : block_linears(block))
        made_.emplace(linear.module, random_weight(kind, linear.out, linear.in, ++seed));
    }
  }
  std::optional<TensorView> find(const std::string& name) const override {
    return base_->find(name);
  }
  std::vector<std::string> names() const override { return base_->names(); }
  std::optional<Weight> quantized(const std::string& module) const override {
    const auto found = made_.find(module);
    if (found == made_.end()) return std::nullopt;
    return found->second.weight;
  }

 private:
  std::shared_ptr<const TensorSource> base_;
  std::map<std::string, RandomWeight> made_;
};

TEST(Tape, GradientsThroughEveryCodec) {
  const OpenModel open = open_taped_golden("llama");
  const TapedModel plain(open.source, open.config, "llama", executor_of(ExecutorKind::fast));
  for (const std::string kind :
       {"dense-f16", "dense-bf16", "grid2", "grid3-asym-g7", "grid4", "grid4-asym-act-g7",
        "grid6-asym-g12", "int8", "nf4-double", "fp4"}) {
    SCOPED_TRACE(kind);
    const auto source = std::make_shared<CodedSource>(open.source, kind, plain.spec());
    expect_gradients(source, open.config, ExecutorKind::fast, 1e-4);
  }
}

class TapeRuns : public testing::Test {
 protected:
  OpenModel open_ = open_taped_golden("qwen3");

  struct Made {
    std::vector<double> losses;
    std::vector<float> gradients;
    bool operator==(const Made&) const = default;
  };
  Made run(std::shared_ptr<const Executor> executor, const TrainingRows& rows, int64_t kept,
           double dropout = 0) const {
    TapedModel model(open_.source, open_.config, "test", std::move(executor));
    Trained trained(model, 3);
    for (const auto& one : trained.all()) one->dropout = dropout;
    Made made;
    made.losses = model.gradients(rows, kept);
    made.gradients = trained.gradients();
    return made;
  }
};

TEST_F(TapeRuns, SameBitsWhateverIsRecomputedOnAnyNumberOfThreads) {
  TrainingRows rows = some_rows();
  rows.noise = 5;
  const Made first = run(executor_of(ExecutorKind::fast, 1), rows, 1, 0.2);
  EXPECT_EQ(run(executor_of(ExecutorKind::fast, 1), rows, 2, 0.2), first);
  EXPECT_EQ(run(executor_of(ExecutorKind::fast, 3), rows, 1, 0.2), first);
  EXPECT_FALSE(run(executor_of(ExecutorKind::fast, 1), rows, 1, 0) == first);
  rows.noise = 0;
  EXPECT_FALSE(run(executor_of(ExecutorKind::fast, 1), rows, 1, 0.2) == first);
}

TEST_F(TapeRuns, OnAnyDevice) {
  const auto shadow =
      std::make_shared<ShadowExecutor>(make_executor(ExecutorKind::reference, Threads(1)));
  EXPECT_EQ(run(shadow, some_rows(), 1, 0.2),
            run(executor_of(ExecutorKind::reference), some_rows(), 1, 0.2));
}

// Documents one by one add up to what they give together, but for the order of sums.
TEST_F(TapeRuns, PackingChangesNothing) {
  const TrainingRows rows = some_rows();
  const Made together = run(executor_of(ExecutorKind::fast), rows, 1, 0.2);
  std::vector<double> losses, sums(together.gradients.size());
  int64_t first = 0;
  for (const int64_t count : rows.documents) {
    TrainingRows one;
    one.documents = {count};
    for (int64_t i = first; i < first + count; ++i) {
      one.tokens.push_back(rows.tokens[static_cast<size_t>(i)]);
      one.keys.push_back(rows.keys[static_cast<size_t>(i)]);
    }
    for (TrainingRows::Target target : rows.targets) {
      target.row -= first;
      if (target.row >= 0 && target.row < count) one.targets.push_back(target);
    }
    const Made alone = run(executor_of(ExecutorKind::fast), one, 1, 0.2);
    losses.insert(losses.end(), alone.losses.begin(), alone.losses.end());
    for (size_t i = 0; i < sums.size() && !alone.losses.empty(); ++i)
      sums[i] += static_cast<double>(alone.gradients[i]);
    first += count;
  }
  double largest = 0;
  for (const double value : sums) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], together.losses[i], 1e-5);
  for (size_t i = 0; i < sums.size(); ++i)
    ASSERT_NEAR(sums[i], static_cast<double>(together.gradients[i]), 2e-6 * largest);
}

TEST_F(TapeRuns, WhatHasNoPlaceIsRefused) {
  TrainingRows rows = some_rows();
  rows.tokens[3] = 96;
  EXPECT_THROW(run(executor_of(ExecutorKind::fast), rows, 1), Error);
  TapedModel model(open_.source, open_.config, "test", executor_of(ExecutorKind::fast));
  TrainedFactors none;
  none.module = "model.layers.0.mlp.no_proj";
  EXPECT_THROW(model.adapt(none), Error);
}

}  // namespace
}  // namespace qwb
