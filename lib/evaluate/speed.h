// Measures how fast a model runs: a grid of prefills and decodes at depths, as in llama-bench. The
// tokens are pseudo-random from a fixed seed and differ in every repetition. Times include neither
// tokenization nor sampling.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/rng.h"
#include "lib/evaluate/disturbance.h"
#include "lib/evaluate/options.h"
#include "lib/model/model.h"

namespace qwb {

// One cell: a prompt of n_prompt tokens at once, then n_gen tokens one by one, after n_depth tokens
// that are in the KV cache already and do not count.
struct SpeedTest {
  int64_t n_prompt = 0;
  int64_t n_gen = 0;
  int64_t n_depth = 0;
  int64_t tokens() const { return n_prompt + n_gen; }
  std::string name() const;  // "pp512", "tg128 @ d512", "pp512+tg128"
  bool operator==(const SpeedTest&) const = default;
};

// The cells in the order of llama-bench: by depth, prompts first; equal ones once. Throws usage for
// negative sizes, a grid without cells, and what the model's positions cannot hold.
std::vector<SpeedTest> speed_tests(const SpeedGrid& grid, const ModelConfig& config);

struct Spread {
  double median = 0;
  double minimum = 0;
  double maximum = 0;
  double mean = 0;
  double deviation = 0;  // of the sample (n - 1); 0 for a single value
};
// Throws usage for an empty list.
Spread spread_of(std::vector<double> values);

// Runs one cell again and again, every time on other tokens.
class SpeedRunner {
 public:
  // Fills the cache to the depth. Another round has other tokens.
  SpeedRunner(const Model& model, const SpeedTest& test, int round = 0, StopToken stop = {});
  // The logits of the prompt's last token and of every generated token are made.
  void pass();
  const SpeedTest& test() const { return test_; }
  int64_t kv_bytes() const { return cache_.bytes(); }
  In logits() const { return logits_; }  // of the last token

 private:
  void feed(const std::vector<int32_t>& tokens);

  const Model& model_;
  SpeedTest test_;
  StopToken stop_;
  Rng rng_;
  KvCache cache_;
  Matrix hidden_;
  Matrix logits_;
};

struct SpeedRun {
  SpeedTest test;
  std::string time;  // when it began, ISO 8601 in UTC
  std::vector<int64_t> samples_ns;
  std::vector<CpuShares> shares;  // of processor time in each of them
  int64_t kv_bytes = 0;
  int64_t disturbed = 0;  // repetitions that lost more than kDisturbed of their processor time and
                          // were made again
  bool noisy = false;     // it stayed so: some of the samples are disturbed
  double lost_share = 0;  // of processor time, the most of the samples

  std::vector<double> seconds() const;
  Spread rate() const;  // tokens/s
};

struct SpeedResult {
  std::vector<SpeedRun> runs;
  int64_t repetitions = 0;
  int threads = 0;
  int models = 1;                                 // measured in turns
  std::optional<double> load_before, load_after;  // averages of a minute
  // The warm-up of the first cell, which reads the pages of a fresh model's weights.
  double first_pass_seconds = 0;

  const SpeedRun* prefill() const;  // the first cell of each kind, null without
  const SpeedRun* decode() const;
  int64_t kv_tokens() const;  // of the largest KV cache
};

// Several models take turns: in each of up to three rounds a warm-up and a share of the
// repetitions, so that a machine that warms up, or does other work for a while, is not charged to
// one of them. A disturbed repetition is made again, up to as many times as there are repetitions;
// if the machine stays noisy the least disturbed ones count, and the run says so. Throws what
// speed_tests throws; usage for less than one repetition.
std::vector<SpeedResult> measure_speeds(const std::vector<const Model*>& models,
                                        const SpeedOptions& options, CpuWatch& watch,
                                        const Context& context);
// One model by this machine's clocks.
SpeedResult measure_speed(const Model& model, const SpeedOptions& options, const Context& context);

}  // namespace qwb
