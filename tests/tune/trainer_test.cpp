// Steps are a function of model, data, settings and number: whatever is recomputed, however often
// the run was stopped, on any number of threads.
#include "lib/tune/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <span>

#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"

namespace qwb {
namespace {

class Training : public testing::Test {
 protected:
  Training() : open_(open_model(Path(QWB_SOURCE_DIR) / "tests/golden/model/llama")) {
    for (size_t d = 0; d < 9; ++d) {
      TrainingDocument document;
      for (size_t i = 0; i < 6 + d; ++i) {
        document.tokens.push_back(static_cast<int32_t>((i * 37 + d * 11) % 96));
        document.weights.push_back(i > 2 ? 1.0f : 0.0f);
      }
      (d < 7 ? train_ : held_).documents.push_back(std::move(document));
    }
    settings_.rank = 80;  // A and B of 32 columns have 2560 values, those of 56 have 4480
    settings_.batch = 3;
    settings_.steps = 6;
    settings_.rate = 1e-2;
  }

  struct Run {
    std::unique_ptr<TapedModel> model;
    std::unique_ptr<Trainer> trainer;
  };
  Run begin(int threads = 1, const TuneMachine& machine = {64, 1}) const {
    Run run;
    run.model = std::make_unique<TapedModel>(open_.source, open_.config, "test",
                                             make_executor(ExecutorKind::fast, Threads(threads)));
    run.trainer = std::make_unique<Trainer>(*run.model, settings_,
                                            tuned_modules(run.model->modules(), settings_.targets),
                                            train_, held_, machine);
    return run;
  }
  static void go(const Run& run, int steps) {
    for (int i = 0; i < steps; ++i) run.trainer->step({});
  }
  // Codes among them are no numbers.
  static std::string bits(const Run& run) {
    const std::vector<float> state = run.trainer->state();
    return hash_hex(std::as_bytes(std::span(state)));
  }
  std::string message(const Run& run, int steps) const {
    try {
      go(run, steps);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::failed);
      return error.what();
    }
    return "";
  }

  OpenModel open_;
  TuneSettings settings_;
  DocumentSet train_, held_;
};

TEST_F(Training, GoesOnInTheSameBits) {
  settings_.dropout = 0.1;
  settings_.neftune = 5;
  settings_.lora_plus = 4;
  settings_.weight_decay = 0.1;
  settings_.eight_bit = true;
  const Run whole = begin(1);
  go(whole, 6);
  const Run first = begin(3);
  go(first, 4);
  first.trainer->evaluate({});
  const Run second = begin(2, {64, 2});
  second.trainer->restore(first.trainer->state(), 4);
  go(second, 2);
  EXPECT_EQ(bits(second), bits(whole));
  settings_.seed = 1;
  const Run other = begin(1);
  go(other, 6);
  EXPECT_NE(bits(other), bits(whole));
}

// As long as it is f32 that rounds, groups of documents change the last bits alone.
TEST_F(Training, GroupsChangeNothing) {
  const Run together = begin(), alone = begin(1, {1, 1});
  const StepRecord a = together.trainer->step({}), b = alone.trainer->step({});
  EXPECT_NEAR(a.loss, b.loss, 1e-6 * a.loss);
  EXPECT_NEAR(a.gradient_norm, b.gradient_norm, 1e-5 * a.gradient_norm);
  EXPECT_EQ(a.supervised, b.supervised);
  EXPECT_NEAR(together.trainer->evaluate({}).loss, alone.trainer->evaluate({}).loss, 1e-5);
}

// This model's final norm bounds its logits: no loss is much below 1.
TEST_F(Training, LearnsItsRowsByHeart) {
  settings_.rank = 16;
  settings_.batch = 7;
  settings_.steps = 50;
  settings_.rate = 3e-2;
  settings_.clip = 0;
  const Run run = begin();
  const double before = run.trainer->evaluate({}).loss;
  EXPECT_GT(run.trainer->step({}).loss, 4);
  go(run, 48);
  EXPECT_LT(run.trainer->step({}).loss, 1.1);
  EXPECT_NE(run.trainer->evaluate({}).loss, before);
}

// Of two documents: what each changed, paired.
TEST_F(Training, ChangesArePaired) {
  HeldOutLoss after;
  after.sums = {8, 3};
  after.counts = {4, 2};
  const LossChange change = loss_change({10, 4}, after);
  EXPECT_DOUBLE_EQ(change.change, -0.5);
  EXPECT_DOUBLE_EQ(change.error, 0);  // both by half a nat a token
  EXPECT_NEAR(loss_change({10, 3}, after).error, std::sqrt(2 * 2 * (4.0 / 9)) / 6, 1e-12);
  const Run run = begin();
  const HeldOutLoss before = run.trainer->evaluate({});
  run.trainer->step({});
  const HeldOutLoss now = run.trainer->evaluate({});
  EXPECT_NEAR(loss_change(before.sums, now).change, now.loss - before.loss, 1e-12);
}

TEST_F(Training, GradientsAreClippedByTheirNorm) {
  settings_.clip = 1e-3;
  settings_.steps = 1;
  const Run clipped = begin();
  const StepRecord record = clipped.trainer->step({});
  EXPECT_TRUE(record.clipped);
  EXPECT_GT(record.gradient_norm, 1e-2);
  settings_.clip = 1e6;
  EXPECT_FALSE(begin().trainer->step({}).clipped);
  // Where eps is all that AdamW divides by, half the gradient goes half the way.
  settings_.eps = 1e3;
  std::vector<double> ways;
  for (const double clip : {2e-3, 1e-3}) {
    settings_.clip = clip;
    const Run run = begin();
    run.trainer->step({});
    double squares = 0;
    for (const AdapterModule& module : run.trainer->adapter_modules()) {
      for (const float value : module.b)
        squares += static_cast<double>(value) * static_cast<double>(value);
    }
    ways.push_back(std::sqrt(squares));
  }
  EXPECT_NEAR(ways[0], 2 * ways[1], 1e-4 * ways[0]);
}

TEST_F(Training, WhatIsNoNumberEndsTheRun) {
  settings_.rate = 1e30;
  EXPECT_NE(message(begin(), 3), "");
}

TEST_F(Training, FactorsThatNothingReachesEndTheRun) {
  settings_.rate = 1e-60;  // nothing in f32
  const std::string told = message(begin(), 3);
  EXPECT_NE(told.find("B is zero still"), std::string::npos) << told;
}

TEST_F(Training, PatternsChooseModules) {
  const Run run = begin();
  const std::vector<LinearSpec> all = run.model->modules();
  EXPECT_EQ(tuned_modules(all, {"all-linear"}).size(), all.size());
  EXPECT_EQ(tuned_modules(all, {"q_proj", "layers.0.mlp.*"}).size(), 5u);
  try {
    tuned_modules(all, {"q_proj", "model.layers.0.mlp.up_prj"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("model.layers.0.mlp.up_proj"), std::string::npos)
        << error.what();
  }
}

TEST(TuneSettings, RatesRiseAndFall) {
  TuneSettings s;
  s.rate = 1;
  s.warmup = 0.1;
  EXPECT_DOUBLE_EQ(rate_of(s, 1, 100), 0.1);
  EXPECT_DOUBLE_EQ(rate_of(s, 10, 100), 1);
  EXPECT_DOUBLE_EQ(rate_of(s, 11, 100), 1);
  EXPECT_DOUBLE_EQ(rate_of(s, 100, 100), 0.1);
  s.schedule = Schedule::cosine;
  EXPECT_DOUBLE_EQ(rate_of(s, 100, 100), 0.1);
  EXPECT_GT(rate_of(s, 30, 100), 0.9);
  s.schedule = Schedule::constant;
  EXPECT_DOUBLE_EQ(rate_of(s, 100, 100), 1);
  s.warmup = 0;
  EXPECT_DOUBLE_EQ(rate_of(s, 1, 1), 1);
}

}  // namespace
}  // namespace qwb
