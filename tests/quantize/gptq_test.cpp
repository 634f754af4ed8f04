#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "lib/base/parallel.h"
#include "lib/base/rng.h"
#include "tests/quantize/demo_helper.h"
#include "tests/quantize/gptq_helper.h"

namespace qwb {
namespace {

struct Problem {
  int64_t out, in;
  std::vector<float> weight, hessian;
  Tensor tensor;
  Moments moments;
  ModuleTask task;

  Problem(int64_t o, int64_t i, std::vector<float> w, std::vector<float> h)
      : out(o),
        in(i),
        weight(std::move(w)),
        hessian(std::move(h)),
        tensor(make_tensor(weight, {o, i})) {
    set_hessian(moments, hessian);
    moments.tokens = 1000;
    task = make_task("module", tensor.view());
    task.moments = &moments;
  }
  ModuleResult gptq(const Json& settings = Json::object()) const {
    return run_method("gptq", task, settings);
  }
};

std::unique_ptr<Problem> random_problem(int64_t out, int64_t in, uint64_t seed,
                                        int64_t tokens = 600) {
  return std::make_unique<Problem>(out, in, normal_values(out * in, seed),
                                   moments_of(correlated_inputs(tokens, in, seed + 10), in));
}

// The llama demo's layer 3, with correlated inputs of channels of very different size.
std::unique_ptr<Problem> demo_problem(const std::string& module) {
  static const DemoModel model("llama");
  const TensorView stored = model.tensor(module);
  const int64_t in = stored.shape[1];
  return std::make_unique<Problem>(stored.shape[0], in, read_floats(stored, module),
                                   moments_of(correlated_inputs(1500, in, 99), in));
}

constexpr auto kDown = "model.layers.3.mlp.down_proj.weight";  // [256, 640]
constexpr auto kGate = "model.layers.3.mlp.gate_proj.weight";  // [640, 256]

GptqSettings plain_settings(ColumnOrder order, int64_t group, bool symmetric, int bits) {
  GptqSettings settings;
  settings.grid = {bits, group, symmetric, DType::f32};
  settings.order = order;
  settings.scale_search = false;
  return settings;
}

struct Solved {
  std::vector<uint8_t> codes;
  std::vector<float> values;
};

Solved solve(const Problem& problem, const GptqSettings& settings) {
  const PreparedMoments moments = prepared(problem.hessian, settings);
  Solved all;
  for (int64_t o = 0; o < problem.out; o += kRowLanes) {
    const int64_t rows = std::min(kRowLanes, problem.out - o);
    const SolvedRows solved =
        solve_rows(solver_task(moments, settings), problem.weight.data() + o * problem.in, 0, rows);
    for (int64_t k = 0; k < rows * problem.in; ++k) {
      all.codes.push_back(solved.codes[k]);
      all.values.push_back(problem.weight[o * problem.in + k] - solved.difference[k]);
    }
  }
  return all;
}

// A value within f32 rounding of the middle between two codes may go either way, and what follows
// in its row then differs: hence a share of codes rather than all, and an error that is the same to
// 1e-3. A wrong compensation changes a tenth of the codes or more.
void expect_like_reference(const Problem& problem, const GptqSettings& settings,
                           const std::string& what) {
  const ReferenceResult reference =
      reference_gptq(problem.weight, problem.out, problem.in, problem.hessian, settings);
  const Solved solved = solve(problem, settings);
  size_t equal = 0;
  for (size_t k = 0; k < solved.codes.size(); ++k)
    equal += solved.codes[k] == reference.codes[k] ? 1 : 0;
  const double share = static_cast<double>(equal) / static_cast<double>(solved.codes.size());
  EXPECT_GT(share, 0.999) << what;
  const double error = output_error(problem.weight, solved.values, problem.in, problem.hessian);
  EXPECT_NEAR(error, reference.output_error, 1e-3 * reference.output_error + 1e-12) << what;
  testing::Test::RecordProperty("equal codes, " + what, std::to_string(share));
}

TEST(SlowGptq, AgreesWithTheTextbook) {
  struct Size {
    int64_t out, in, group;
  };
  // Groups shorter than a segment, across blocks, a short last group, several blocks, one column.
  for (const auto& [out, in, group] :
       {Size{70, 96, 32}, Size{9, 200, 48}, Size{33, 300, 128}, Size{5, 390, 192},
        Size{64, 256, 256}, Size{3, 1, 1}, Size{20, 129, 16}}) {
    const auto problem = random_problem(out, in, static_cast<uint64_t>(out * 1000 + in));
    for (const ColumnOrder order :
         {ColumnOrder::sequential, ColumnOrder::group_aware, ColumnOrder::static_groups}) {
      for (const bool symmetric : {true, false}) {
        const std::string what = std::to_string(out) + "x" + std::to_string(in) + " group " +
                                 std::to_string(group) + " order " +
                                 std::to_string(static_cast<int>(order)) +
                                 (symmetric ? " symmetric" : " asymmetric");
        expect_like_reference(*problem, plain_settings(order, group, symmetric, symmetric ? 4 : 3),
                              what);
      }
    }
  }
}

TEST(SlowGptq, AgreesWithTheTextbookOnRealWeights) {
  for (const std::string module : {kGate}) {
    const auto problem = demo_problem(module);
    expect_like_reference(*problem, plain_settings(ColumnOrder::group_aware, 128, true, 4), module);
  }
}

TEST(SlowGptq, ReportsTheErrorOfWhatItStores) {
  const auto problem = demo_problem(kGate);
  const ModuleResult result = problem->gptq();
  const double error =
      output_error(problem->weight, dequantize(result.tensor), problem->in, problem->hessian);
  EXPECT_NEAR(*result.output_error / error, 1, 1e-3);
  EXPECT_EQ(result.details["attempts"], 1);
  EXPECT_EQ(result.details["dead_columns"], 0);
}

TEST(SlowGptq, BeatsPlainRoundingOnRealWeights) {
  const std::map<std::string, std::vector<int>> cases = {{kGate, {2, 4, 8}}, {kDown, {3}}};
  for (const auto& [module, all_bits] : cases) {
    const auto problem = demo_problem(module);
    for (const int bits : all_bits) {
      for (const bool symmetric : {true, false}) {
        for (const bool act_order : {true, false}) {
          const Json grid = {{"bits", bits}, {"symmetric", symmetric}};
          Json settings = grid;
          settings["act_order"] = act_order;
          settings["scale_search"] = false;
          const auto rounded = run_method("rtn", problem->task, grid);
          const double rtn = output_error(problem->weight, dequantize(rounded.tensor), problem->in,
                                          problem->hessian);
          const double plain = *problem->gptq(settings).output_error;
          settings["scale_search"] = true;
          const double searched = *problem->gptq(settings).output_error;
          EXPECT_LT(plain, 0.7 * rtn) << module << " " << settings.dump();
          EXPECT_LT(searched, plain * (bits == 8 ? 1.1 : 1.0)) << module << " " << settings.dump();
        }
      }
    }
  }
}

// Two to four columns and few codes: every assignment of codes to the same grid can be tried.
TEST(Gptq, NeverBelowTheOptimumAndOnAverageBelowRounding) {
  double sum_rounded = 0, sum_gptq = 0, sum_best = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const int64_t in = 2 + static_cast<int64_t>(seed % 3);
    const auto problem = random_problem(1, in, seed, 40);
    GptqSettings settings = plain_settings(ColumnOrder::static_groups, in, true, 2);
    settings.damping = 0;
    const Solved solved = solve(*problem, settings);
    const Grid grid = make_grid(problem->weight.data(), in, settings.grid, "test");
    double best = std::numeric_limits<double>::max();
    std::vector<float> values(static_cast<size_t>(in));
    for (int choice = 0; choice < 1 << (2 * in); ++choice) {
      for (int64_t i = 0; i < in; ++i)
        values[i] = grid_value(static_cast<uint8_t>((choice >> (2 * i)) & 3), grid);
      best = std::min(best, output_error(problem->weight, values, in, problem->hessian));
    }
    std::vector<uint8_t> codes(static_cast<size_t>(in));
    round_to_grid(problem->weight.data(), in, grid, 3, codes.data());
    for (int64_t i = 0; i < in; ++i) values[i] = grid_value(codes[i], grid);
    const double gptq = output_error(problem->weight, solved.values, in, problem->hessian);
    EXPECT_GE(gptq, best * (1 - 1e-5)) << seed;
    sum_best += best;
    sum_gptq += gptq;
    sum_rounded += output_error(problem->weight, values, in, problem->hessian);
  }
  EXPECT_LT(sum_gptq, sum_rounded);
  EXPECT_GE(sum_gptq, sum_best);
}

TEST(Gptq, PermutedChannelsGiveTheSameWeights) {
  const int64_t out = 40, in = 150;
  const auto problem = random_problem(out, in, 5);
  std::vector<int64_t> order(static_cast<size_t>(in));
  for (int64_t i = 0; i < in; ++i) order[i] = (i * 47) % in;
  std::vector<float> weight(problem->weight.size()), hessian(problem->hessian.size());
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t o = 0; o < out; ++o) weight[o * in + i] = problem->weight[o * in + order[i]];
    for (int64_t j = 0; j < in; ++j)
      hessian[i * in + j] = problem->hessian[order[i] * in + order[j]];
  }
  const Problem permuted(out, in, weight, hessian);
  const Json settings = {{"group_size", -1}, {"act_order", true}};
  const auto plain = dequantize(problem->gptq(settings).tensor),
             other = dequantize(permuted.gptq(settings).tensor);
  for (int64_t k = 0; k < out * in; ++k)
    ASSERT_EQ(other[k], plain[k / in * in + order[k % in]]) << k;
}

TEST(SlowGptq, SameBitsForAnyNumberOfThreads) {
  const auto problem = demo_problem(kDown);
  std::string first;
  for (const int count : {1, 2, 7}) {
    const auto executor = make_executor(ExecutorKind::fast, Threads(count));
    problem->moments.executor = executor.get();
    problem->task.context.threads = Threads(count);
    const ModuleResult result = problem->gptq({{"symmetric", false}});
    const std::string digest_now = digest(result.tensor) + " " + Json(*result.output_error).dump();
    if (first.empty()) first = digest_now;
    EXPECT_EQ(digest_now, first) << count;
  }
}

TEST(Gptq, TransposedStorageGivesTheSameTensor) {
  const auto problem = random_problem(70, 130, 8);
  std::vector<float> transposed(problem->weight.size());
  for (int64_t k = 0; k < 70 * 130; ++k) transposed[k % 130 * 70 + k / 130] = problem->weight[k];
  const Tensor stored = make_tensor(transposed, {130, 70});
  ModuleTask task = make_task("module", stored.view(), true);
  task.moments = &problem->moments;
  EXPECT_EQ(digest(run_method("gptq", task).tensor), digest(problem->gptq().tensor));
}

// With a diagonal H nothing can be compensated: plain rounding.
TEST(Gptq, DeadColumnsAreRounded) {
  const int64_t in = 576;
  std::vector<float> nothing(static_cast<size_t>(in * in));
  const Problem problem(10, in, normal_values(10 * in, 3), nothing);
  const ModuleResult result = problem.gptq({{"scale_search", false}, {"refine", "off"}});
  EXPECT_EQ(digest(result.tensor),
            digest(run_method("rtn", problem.task, {{"scale_dtype", "f16"}}).tensor));
  EXPECT_EQ(result.details["dead_columns"], in);
  EXPECT_EQ(*result.output_error, 0);
}

TEST(Gptq, SingularMoments) {
  const int64_t in = 200;
  for (const int64_t tokens : {1, 2, 30}) {
    auto inputs = correlated_inputs(tokens, in, 4);
    for (int64_t t = 0; t < tokens; ++t) inputs[t * in + 7] = 0;
    const Problem problem(20, in, normal_values(20 * in, 3), moments_of(inputs, in));
    const ModuleResult result = problem.gptq();
    const auto rounded = run_method("rtn", problem.task);
    EXPECT_EQ(result.details["dead_columns"], 1);
    EXPECT_LT(*result.output_error,
              0.1 * output_error(problem.weight, dequantize(rounded.tensor), in, problem.hessian))
        << tokens;
    EXPECT_LT(result.weight_error, 0.2);
  }
}

// Columns that are copies of each other: without damping there is nothing to factorize.
TEST(Gptq, RaisesTheDampingUntilItFactorizes) {
  const int64_t in = 300;
  const Problem problem(8, in, normal_values(8 * in, 3),
                        std::vector<float>(static_cast<size_t>(in * in), 1000.0f));
  const ModuleResult result = problem.gptq({{"damping", 0}});
  EXPECT_GT(result.details["attempts"], 1);
  EXPECT_GT(result.details["damping"], 0);
  EXPECT_TRUE(std::isfinite(*result.output_error));
}

TEST(Gptq, GivesUpNamingTheModule) {
  std::vector<float> indefinite = {1, 50, 50, 1};
  const Problem problem(1, 2, {1, 2}, indefinite);
  try {
    problem.gptq({{"group_size", -1}});
    FAIL() << "an indefinite matrix was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::failed);
    EXPECT_NE(std::string(error.what()).find("module"), std::string::npos);
  }
}

TEST(Gptq, RefusesNanInfAndNoTokens) {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity()};
  for (const float value : bad) {
    for (const size_t at : {0u, 5u, 40u * 130u - 1}) {
      auto problem = random_problem(40, 130, 2);
      auto weight = problem->weight;
      weight[at] = value;
      const Problem broken(40, 130, weight, problem->hessian);
      EXPECT_THROW(broken.gptq(), Error);
      problem->hessian[at] = value;
      EXPECT_THROW(problem->gptq(), Error);
    }
  }
  auto problem = random_problem(4, 130, 2);
  problem->moments.tokens = 0;
  EXPECT_THROW(problem->gptq(), Error);
  problem->task.moments = nullptr;
  EXPECT_THROW(problem->gptq(), Error);
}

TEST(Gptq, OutliersAndZeroWeights) {
  auto inputs = correlated_inputs(500, 256, 1);
  for (size_t t = 0; t < inputs.size(); t += 256) inputs[t + 17] *= 3000;
  auto weight = normal_values(30 * 256, 2);
  for (int64_t i = 0; i < 256; ++i) weight[5 * 256 + i] = 0;
  weight[9 * 256 + 3] = 2000;
  const Problem problem(30, 256, weight, moments_of(inputs, 256));
  const ModuleResult result = problem.gptq();
  const auto rounded = run_method("rtn", problem.task);
  EXPECT_LT(*result.output_error,
            output_error(problem.weight, dequantize(rounded.tensor), 256, problem.hessian));
  const auto values = dequantize(result.tensor);
  for (int64_t i = 0; i < 256; ++i) EXPECT_EQ(values[5 * 256 + i], 0);
}

TEST(Gptq, GroupsThatDoNotFit) {
  const auto problem = random_problem(4, 64, 2);
  EXPECT_THROW(problem->gptq({{"group_size", 128}}), Error);
  EXPECT_THROW(problem->gptq({{"group_size", 0}}), Error);
  EXPECT_NO_THROW(problem->gptq({{"group_size", -1}}));
}

}  // namespace
}  // namespace qwb
