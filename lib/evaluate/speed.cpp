#include "lib/evaluate/speed.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <ctime>
#include <numeric>
#include <span>

#include "lib/base/error.h"
#include "lib/base/interrupt.h"
#include "lib/base/parallel.h"

namespace qwb {
namespace {

constexpr int64_t kPrompt = 512;
constexpr int64_t kGenerate = 128;

std::vector<int32_t> random_tokens(Rng& rng, int64_t count, int64_t vocab) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocab)));
  return tokens;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

std::vector<int64_t> or_default(const std::vector<int64_t>& sizes, int64_t size, int64_t most) {
  return sizes.empty() ? std::vector<int64_t>{std::min(size, most)} : sizes;
}

void check_test(const SpeedTest& test, const ModelConfig& config) {
  const auto in_range = [](int64_t n) { return n >= 0 && n <= int64_t{1} << 40; };
  if (!in_range(test.n_prompt) || !in_range(test.n_gen) || !in_range(test.n_depth))
    throw Error(ErrorKind::usage, "sizes of a speed measurement are 0 or more tokens");
  if (test.tokens() + test.n_depth <= config.max_positions) return;
  throw Error(ErrorKind::usage, fmt::format("{} does not fit the {} positions of the model", test.name(),
                                            config.max_positions));
}

}  // namespace

std::string SpeedTest::name() const {
  std::string text = n_prompt > 0 ? fmt::format("pp{}", n_prompt) : "";
  if (n_gen > 0) text += fmt::format("{}tg{}", text.empty() ? "" : "+", n_gen);
  return n_depth > 0 ? fmt::format("{} @ d{}", text, n_depth) : text;
}

std::vector<SpeedTest> speed_tests(const SpeedGrid& grid, const ModelConfig& config) {
  std::vector<SpeedTest> tests;
  const auto add = [&](const SpeedTest& test) {
    check_test(test, config);
    if (test.tokens() > 0 && std::find(tests.begin(), tests.end(), test) == tests.end())
      tests.push_back(test);
  };
  for (const int64_t depth : or_default(grid.depths, 0, 0)) {
    const int64_t room = std::max<int64_t>(1, config.max_positions - depth);
    for (const int64_t n : or_default(grid.prompts, kPrompt, room)) add({n, 0, depth});
    for (const int64_t n : or_default(grid.generates, kGenerate, room)) add({0, n, depth});
  }
  if (tests.empty())
    throw Error(ErrorKind::usage, "a speed measurement needs a prompt or tokens to generate");
  return tests;
}

Spread spread_of(std::vector<double> values) {
  if (values.empty()) throw Error(ErrorKind::usage, "no measurements");
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {median, values.front(), values.back(), mean, count > 1 ? std::sqrt(squares / (count - 1)) : 0};
}

SpeedRunner::SpeedRunner(const Model& model, const SpeedTest& test)
    : model_(model),
      test_(test),
      rng_(static_cast<uint64_t>(test.tokens())),
      cache_(model.new_cache(std::max<int64_t>(1, test.n_depth + test.tokens()))),
      hidden_(
          checked_mul(std::max<int64_t>({test.n_prompt, test.n_depth, 1}), model.config().hidden, "prompt"),
          MemoryKind::activations),
      logits_(model.config().vocab, MemoryKind::activations) {
  if (test_.n_depth == 0) return;
  model_.forward(random_tokens(rng_, test_.n_depth, model_.config().vocab), cache_, hidden_.data());
}

void SpeedRunner::feed(const std::vector<int32_t>& tokens) {
  model_.forward(tokens, cache_, hidden_.data());
  model_.logits(hidden_.data() + (static_cast<int64_t>(tokens.size()) - 1) * model_.config().hidden, 1,
                logits_.data());
}

void SpeedRunner::pass() {
  cache_.truncate(test_.n_depth);
  if (test_.n_prompt > 0) feed(random_tokens(rng_, test_.n_prompt, model_.config().vocab));
  for (int64_t i = 0; i < test_.n_gen; ++i) feed(random_tokens(rng_, 1, model_.config().vocab));
}

std::vector<double> SpeedRun::seconds() const {
  std::vector<double> values;
  for (const int64_t ns : samples_ns) values.push_back(static_cast<double>(ns) * 1e-9);
  return values;
}

Spread SpeedRun::rate() const {
  std::vector<double> values = seconds();
  for (double& value : values) value = static_cast<double>(test.tokens()) / value;
  return spread_of(std::move(values));
}

const SpeedRun* SpeedResult::prefill() const {
  const auto found = std::find_if(runs.begin(), runs.end(), [](const auto& r) { return r.test.n_gen == 0; });
  return found == runs.end() ? nullptr : &*found;
}
const SpeedRun* SpeedResult::decode() const {
  const auto found =
      std::find_if(runs.begin(), runs.end(), [](const auto& r) { return r.test.n_prompt == 0; });
  return found == runs.end() ? nullptr : &*found;
}
int64_t SpeedResult::kv_tokens() const {
  int64_t most = 0;
  for (const SpeedRun& run : runs) most = std::max(most, run.test.n_depth + run.test.tokens());
  return most;
}

namespace {

int64_t nanoseconds_of(SpeedRunner& runner, Progress& progress) {
  check_interrupt();
  const auto begin = std::chrono::steady_clock::now();
  runner.pass();
  const auto time = std::chrono::steady_clock::now() - begin;
  progress.advance(runner.test().tokens(), runner.test().name());
  return std::max<int64_t>(1, std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
}

}  // namespace

SpeedResult measure_speed(const Model& model, const SpeedOptions& options, Progress& progress) {
  if (options.repetitions < 1) throw Error(ErrorKind::usage, "at least one repetition is needed");
  const std::vector<SpeedTest> tests = speed_tests(options.grid, model.config());
  SpeedResult result;
  result.repetitions = options.repetitions;
  result.threads = threads();
  int64_t tokens = 0;
  for (const SpeedTest& test : tests) tokens += (options.repetitions + 1) * test.tokens();
  progress.begin("speed", tokens);
  for (const SpeedTest& test : tests) {
    SpeedRun run{test, utc_now(), {}, 0};
    SpeedRunner runner(model, test);
    run.kv_bytes = runner.kv_bytes();
    const int64_t warm_up = nanoseconds_of(runner, progress);
    if (result.runs.empty()) result.first_pass_seconds = static_cast<double>(warm_up) * 1e-9;
    for (int64_t i = 0; i < options.repetitions; ++i)
      run.samples_ns.push_back(nanoseconds_of(runner, progress));
    result.runs.push_back(std::move(run));
  }
  progress.end();
  return result;
}

}  // namespace qwb
