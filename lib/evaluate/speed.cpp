#include "lib/evaluate/speed.h"

#include <algorithm>
#include <chrono>
#include <span>

#include "lib/base/error.h"
#include "lib/base/interrupt.h"
#include "lib/base/parallel.h"
#include "lib/base/rng.h"

namespace qwb {
namespace {

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

class Runner {
 public:
  Runner(const Model& model, int64_t prompt, int64_t generate)
      : model_(model),
        cache_(model.new_cache(std::max(prompt, generate))),
        hidden_(checked_mul(prompt, model.config().hidden, "prompt")),
        logits_(model.config().vocab) {}

  // Runs the prompt and makes the logits of its last token.
  void prefill(const std::vector<int32_t>& tokens) {
    cache_.truncate(0);
    model_.forward(tokens, cache_, hidden_.data());
    model_.logits(hidden_.data() + (static_cast<int64_t>(tokens.size()) - 1) * model_.config().hidden, 1,
                  logits_.data());
  }
  void decode(const std::vector<int32_t>& tokens) {
    cache_.truncate(0);
    for (size_t i = 0; i < tokens.size(); ++i) {
      model_.forward(std::span(tokens).subspan(i, 1), cache_, hidden_.data());
      model_.logits(hidden_.data(), 1, logits_.data());
    }
  }

 private:
  const Model& model_;
  KvCache cache_;
  FloatBuffer hidden_;
  FloatBuffer logits_;
};

std::vector<int32_t> random_tokens(Rng& rng, int64_t count, int64_t vocab) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocab)));
  return tokens;
}

// Seconds of each repetition of `work` on fresh tokens.
std::vector<double> time_phase(const std::string& phase, int64_t count, const Model& model,
                               const SpeedOptions& options,
                               const std::function<void(const std::vector<int32_t>&)>& work,
                               Progress& progress) {
  Rng rng(count);
  std::vector<std::vector<int32_t>> inputs;
  for (int64_t i = 0; i <= options.repetitions; ++i)
    inputs.push_back(random_tokens(rng, count, model.config().vocab));
  progress.begin("speed of " + phase, (options.repetitions + 1) * count);
  work(inputs[0]);
  progress.advance(count, "");
  std::vector<double> seconds;
  if (options.before) options.before(phase);
  for (int64_t i = 1; i <= options.repetitions; ++i) {
    check_interrupt();
    seconds.push_back(seconds_of([&] { work(inputs[static_cast<size_t>(i)]); }));
    progress.advance(count, "");
  }
  if (options.after) options.after(phase, options.repetitions * count);
  progress.end();
  return seconds;
}

Spread rates(std::vector<double> seconds, int64_t tokens) {
  for (double& s : seconds) s = static_cast<double>(tokens) / s;
  return spread_of(std::move(seconds));
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  if (values.empty()) throw Error(ErrorKind::usage, "no measurements");
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

SpeedResult measure_speed(const Model& model, const SpeedOptions& options, Progress& progress) {
  if (options.prompt < 1 || options.generate < 1 || options.repetitions < 1) {
    throw Error(ErrorKind::usage, "a speed measurement needs at least one token and one repetition");
  }
  SpeedResult result;
  result.prompt_tokens = std::min(options.prompt, model.config().max_positions);
  result.generated_tokens = std::min(options.generate, model.config().max_positions);
  result.repetitions = options.repetitions;
  result.threads = threads();
  Runner runner(model, result.prompt_tokens, result.generated_tokens);
  const auto prefill = time_phase(
      "prefill", result.prompt_tokens, model, options, [&](const auto& t) { runner.prefill(t); }, progress);
  const auto decode = time_phase(
      "decode", result.generated_tokens, model, options, [&](const auto& t) { runner.decode(t); }, progress);
  result.prefill = rates(prefill, result.prompt_tokens);
  result.first_token = spread_of(prefill);
  result.decode = rates(decode, result.generated_tokens);
  return result;
}

}  // namespace qwb
