#include "lib/evaluate/speed.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <numeric>
#include <span>

#include "lib/base/error.h"
#include "lib/base/parallel.h"

namespace qwb {
namespace {

constexpr int64_t kPrompt = 512;
constexpr int64_t kGenerate = 128;

std::vector<int32_t> random_tokens(Rng& rng, int64_t count, int64_t vocab) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens)
    token = static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocab)));
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
  throw Error(ErrorKind::usage, fmt::format("{} does not fit the {} positions of the model",
                                            test.name(), config.max_positions));
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
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {median, values.front(), values.back(), mean,
          count > 1 ? std::sqrt(squares / (count - 1)) : 0};
}

SpeedRunner::SpeedRunner(const Model& model, const SpeedTest& test, int round, StopToken stop)
    : model_(model),
      test_(test),
      stop_(std::move(stop)),
      rng_(static_cast<uint64_t>(test.tokens()) + 1000003 * static_cast<uint64_t>(round)),
      cache_(model.new_cache(std::max<int64_t>(1, test.n_depth + test.tokens()))),
      hidden_(model.executor().allocate(std::max<int64_t>({test.n_prompt, test.n_depth, 1}),
                                        model.config().hidden)),
      logits_(model.executor().allocate(1, model.config().vocab)) {
  if (test_.n_depth == 0) return;
  model_.forward(random_tokens(rng_, test_.n_depth, model_.config().vocab), cache_,
                 hidden_.view().row_range(0, test_.n_depth), stop_);
}

void SpeedRunner::feed(const std::vector<int32_t>& tokens) {
  const Out hidden = hidden_.view().row_range(0, std::ssize(tokens));
  model_.forward(tokens, cache_, hidden, stop_);
  model_.logits(hidden.row_range(std::ssize(tokens) - 1, 1), logits_);
}

void SpeedRunner::pass() {
  cache_.truncate(test_.n_depth);
  if (test_.n_prompt > 0) feed(random_tokens(rng_, test_.n_prompt, model_.config().vocab));
  for (int64_t i = 0; i < test_.n_gen; ++i) feed(random_tokens(rng_, 1, model_.config().vocab));
  model_.executor().finish();
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
  const auto found =
      std::find_if(runs.begin(), runs.end(), [](const auto& r) { return r.test.n_gen == 0; });
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

constexpr int64_t kRounds = 3;    // of several models
constexpr int64_t kPatience = 2;  // repetitions made, at most, for each that is wanted

// One cell of one model, through all rounds.
struct SpeedCell {
  const Model* model = nullptr;
  SpeedRun run;
  std::string turn;  // "round 1, model 2: " for several models
  CpuShares whole;   // of all repetitions together: ticks count that are too few in each
};

double best_own(const SpeedRun& run) {
  double best = 0;
  for (const CpuShares& shares : run.shares) best = std::max(best, shares.own);
  return best;
}

int64_t undisturbed(const SpeedRun& run) {
  const double best = best_own(run);
  return std::count_if(run.shares.begin(), run.shares.end(), [&](const CpuShares& shares) {
    return lost_share(shares, best) <= kDisturbed;
  });
}

CpuShares timed_pass(SpeedRunner& runner, const std::string& turn, CpuWatch& watch,
                     const Context& context) {
  context.stop.check();
  const CpuMoment begin = watch.now();
  runner.pass();
  const CpuShares shares = shares_between(begin, watch.now(), context.threads.count());
  context.progress->advance(runner.test().tokens(), turn + runner.test().name());
  return shares;
}

// A warm-up, and repetitions until `wanted` of all rounds so far were undisturbed or patience ends.
void speed_round(SpeedCell& cell, int64_t wanted, int round, CpuWatch& watch, SpeedResult& result,
                 const Context& context) {
  SpeedRun& run = cell.run;
  SpeedRunner runner(*cell.model, run.test, round, context.stop);
  run.kv_bytes = runner.kv_bytes();
  const CpuShares warm_up = timed_pass(runner, cell.turn, watch, context);
  if (result.first_pass_seconds == 0) result.first_pass_seconds = warm_up.seconds;
  const CpuMoment begin = watch.now();
  while (undisturbed(run) < wanted &&
         static_cast<int64_t>(run.shares.size()) < kPatience * wanted) {
    const CpuShares shares = timed_pass(runner, cell.turn, watch, context);
    run.samples_ns.push_back(std::max<int64_t>(1, static_cast<int64_t>(shares.seconds * 1e9)));
    run.shares.push_back(shares);
  }
  const CpuShares round_shares = shares_between(begin, watch.now(), context.threads.count());
  const double seconds = cell.whole.seconds + round_shares.seconds;
  const auto mean = [&](double CpuShares::*share) {
    return (cell.whole.*share * cell.whole.seconds + round_shares.*share * round_shares.seconds) /
           seconds;
  };
  cell.whole = {seconds, mean(&CpuShares::own), mean(&CpuShares::others), mean(&CpuShares::stolen)};
}

// Keeps the undisturbed repetitions, or of a noisy run the least disturbed ones.
SpeedRun finished_run(SpeedCell& cell, int64_t repetitions) {
  SpeedRun run = cell.run;
  const double best = best_own(run);
  const auto lost = [&](size_t i) { return lost_share(cell.run.shares[i], best); };
  std::vector<size_t> order(cell.run.shares.size());
  std::iota(order.begin(), order.end(), size_t{0});
  run.disturbed = static_cast<int64_t>(order.size()) - undisturbed(cell.run);
  // Repetitions that lost less than kDisturbed are equally good: the first of them count.
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::max(lost(a), kDisturbed) < std::max(lost(b), kDisturbed);
  });
  order.resize(std::min(order.size(), static_cast<size_t>(repetitions)));
  std::sort(order.begin(), order.end());
  run.samples_ns.clear();
  run.shares.clear();
  for (const size_t i : order) {
    run.samples_ns.push_back(cell.run.samples_ns[i]);
    run.shares.push_back(cell.run.shares[i]);
    run.lost_share = std::max(run.lost_share, lost(i));
  }
  const bool throughout = lost_share(cell.whole, cell.whole.own) > kDisturbed && run.disturbed == 0;
  if (throughout) run.lost_share = std::max(run.lost_share, lost_share(cell.whole, cell.whole.own));
  run.noisy = run.lost_share > kDisturbed;
  return run;
}

}  // namespace

std::vector<SpeedResult> measure_speeds(const std::vector<const Model*>& models,
                                        const SpeedOptions& options, CpuWatch& watch,
                                        const Context& context) {
  if (options.repetitions < 1) throw Error(ErrorKind::usage, "at least one repetition is needed");
  const int64_t rounds = models.size() > 1 ? std::min(kRounds, options.repetitions) : 1;
  std::vector<SpeedResult> results(models.size());
  std::vector<std::vector<SpeedCell>> cells(models.size());
  int64_t tokens = 0;
  for (size_t m = 0; m < models.size(); ++m) {
    for (const SpeedTest& test : speed_tests(options.grid, models[m]->config())) {
      SpeedCell cell;
      cell.model = models[m];
      cell.run.test = test;
      cell.run.time = utc_now();
      cells[m].push_back(std::move(cell));
      tokens += (options.repetitions + rounds) * test.tokens();
    }
  }
  const std::optional<double> load = load_average();
  context.progress->begin("speed", tokens);
  for (int64_t round = 0; round < rounds; ++round) {
    const int64_t wanted = options.repetitions * (round + 1) / rounds;
    for (size_t m = 0; m < models.size(); ++m) {
      for (SpeedCell& cell : cells[m]) {
        if (models.size() > 1) cell.turn = fmt::format("round {}, model {}: ", round + 1, m + 1);
        speed_round(cell, wanted, static_cast<int>(round), watch, results[m], context);
      }
    }
  }
  context.progress->end();
  for (size_t m = 0; m < models.size(); ++m) {
    SpeedResult& result = results[m];
    result.repetitions = options.repetitions;
    result.threads = context.threads.count();
    result.models = static_cast<int>(models.size());
    result.load_before = load;
    result.load_after = load_average();
    for (SpeedCell& cell : cells[m]) result.runs.push_back(finished_run(cell, options.repetitions));
  }
  return results;
}

SpeedResult measure_speed(const Model& model, const SpeedOptions& options, const Context& context) {
  SystemCpuWatch watch;
  return std::move(measure_speeds({&model}, options, watch, context).front());
}

}  // namespace qwb
