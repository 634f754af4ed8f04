#include "lib/evaluate/divergence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/error.h"
#include "lib/evaluate/of_baseline.h"
#include "lib/evaluate/window_scorer.h"

namespace qwb {
namespace {

constexpr int64_t kTileFloats = 8 << 20;  // logits of one model held at a time: 32 MB
constexpr int64_t kNumbersOfToken = 4;

// Rows of a tile depend on the vocabulary alone, so that results do not depend on the machine.
int64_t tile_rows(int64_t vocab) {
  return std::clamp<int64_t>(kTileFloats / vocab, 16, 512);
}

void check_same(const Model& base, const TokenPlan& base_plan, const Model& other,
                const TokenPlan& plan) {
  if (base.config().vocab != other.config().vocab) {
    throw Error(ErrorKind::usage,
                fmt::format("the baseline has a vocabulary of {} tokens and the artifact one of {}",
                            base.config().vocab, other.config().vocab),
                {}, "choose the model it was made from by --baseline");
  }
  if (base_plan.hash() != plan.hash()) {
    throw Error(ErrorKind::usage,
                "the tokenizers of baseline and artifact split the text differently", {},
                "choose the model it was made from by --baseline");
  }
}

// A window in the journal: the two sums of losses as perplexity counts them, then its tokens.
std::vector<double> journal_numbers(double base_sum, double other_sum,
                                    std::span<const TokenDivergence> tokens) {
  std::vector<double> numbers = {base_sum, other_sum};
  for (const TokenDivergence& t : tokens)
    numbers.insert(numbers.end(), {t.kl, t.base_loss, t.other_loss, t.same_top ? 1.0 : 0.0});
  return numbers;
}

class Comparison {
 public:
  Comparison(const Model& base, const Model& other, const TokenPlan& plan, const Context& context)
      : base_(base),
        other_(other),
        context_(context),
        base_scorer_(base, plan, context.stop),
        other_scorer_(other, plan, context.stop),
        rows_(tile_rows(base.config().vocab)),
        base_logits_(base.executor().allocate(rows_, base.config().vocab)),
        other_logits_(other.executor().allocate(rows_, base.config().vocab)) {}

  int64_t bytes() const {
    return base_scorer_.kv_bytes() + other_scorer_.kv_bytes() + base_scorer_.hidden_bytes() +
           other_scorer_.hidden_bytes() + base_logits_.bytes() + other_logits_.bytes();
  }

  std::vector<double> window(int64_t index) {
    const double base_sum = of_baseline([&] { return sum_of(base_scorer_.score(index)); });
    const double other_sum = sum_of(other_scorer_.score(index));
    std::vector<TokenDivergence> tokens;
    const std::span<const int32_t> targets = base_scorer_.targets();
    const auto count = static_cast<int64_t>(targets.size());
    for (int64_t row = 0; row < count; row += rows_) {
      context_.stop.check();
      const int64_t rows = std::min(rows_, count - row);
      const Out base_logits = base_logits_.view().row_range(0, rows),
                other_logits = other_logits_.view().row_range(0, rows);
      base_.logits(base_scorer_.hidden().row_range(row, rows), base_logits);
      other_.logits(other_scorer_.hidden().row_range(row, rows), other_logits);
      bool finite = true;
      const auto part = divergence_of_rows(
          base_.executor(), base_logits, other_logits,
          targets.subspan(static_cast<size_t>(row), static_cast<size_t>(rows)), finite);
      if (!finite)
        throw Error(ErrorKind::failed, fmt::format("NaN or Inf in the logits of window {}", index));
      tokens.insert(tokens.end(), part.begin(), part.end());
    }
    return journal_numbers(base_sum, other_sum, tokens);
  }

 private:
  static double sum_of(std::span<const double> losses) {
    return std::accumulate(losses.begin(), losses.end(), 0.0);
  }
  const Model& base_;
  const Model& other_;
  Context context_;
  WindowScorer base_scorer_;
  WindowScorer other_scorer_;
  int64_t rows_;
  Matrix base_logits_;
  Matrix other_logits_;
};

double correlation_of(std::span<const TokenDivergence> tokens) {
  double a = 0, b = 0;
  for (const TokenDivergence& t : tokens) a += t.base_loss, b += t.other_loss;
  a /= static_cast<double>(tokens.size());
  b /= static_cast<double>(tokens.size());
  double aa = 0, bb = 0, ab = 0;
  for (const TokenDivergence& t : tokens) {
    aa += (t.base_loss - a) * (t.base_loss - a);
    bb += (t.other_loss - b) * (t.other_loss - b);
    ab += (t.base_loss - a) * (t.other_loss - b);
  }
  return ab / std::sqrt(aa * bb);
}

double probability_change(const TokenDivergence& token) {
  return std::exp(-token.other_loss) - std::exp(-token.base_loss);
}

std::vector<double> quantiles_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  std::vector<double> quantiles;
  for (const double fraction : kDivergenceQuantiles)
    quantiles.push_back(quantile_of_sorted(values, fraction));
  return quantiles;
}

// The mean over all scored tokens of `value` of a token, with the plan's units.
template <class Value>
Estimate mean_over_tokens(const TokenPlan& plan, std::span<const TokenDivergence> tokens,
                          const Value& value) {
  std::vector<Unit> units(plan.unit_weights.size());
  size_t next = 0;
  for (const TokenWindow& window : plan.windows) {
    Unit& unit = units[window.unit];
    for (int64_t i = 0; i < window.scored(); ++i) unit.sum += value(tokens[next++]);
    unit.weight += static_cast<double>(window.scored());
  }
  return estimate_mean(units);
}

}  // namespace

std::vector<TokenDivergence> divergence_of_rows(const Executor& executor, In base, In other,
                                                std::span<const int32_t> targets, bool& finite) {
  std::vector<RowDivergence> rows(targets.size());
  executor.divergence(base, other, targets, rows);
  std::vector<TokenDivergence> tokens;
  finite = true;
  for (const RowDivergence& d : rows) {
    finite = finite && d.finite;
    tokens.push_back({d.kl, d.base_loss, d.other_loss, d.base_top == d.other_top});
  }
  return tokens;
}

DivergenceResult summarize_divergence(const TokenPlan& plan,
                                      std::span<const TokenDivergence> tokens) {
  if (static_cast<int64_t>(tokens.size()) != plan.scored())
    throw Error(ErrorKind::usage, "not the tokens of this plan");
  DivergenceResult r;
  r.protocol = plan.protocol;
  r.context = plan.context;
  r.stride = plan.stride;
  r.tokens = plan.scored();
  r.windows = static_cast<int64_t>(plan.windows.size());
  r.text_hash = plan.text_hash;
  r.token_hash = plan.token_hash;
  r.mean_kl = mean_over_tokens(plan, tokens, [](const TokenDivergence& t) { return t.kl; });
  r.same_top = mean_over_tokens(plan, tokens,
                                [](const TokenDivergence& t) { return t.same_top ? 1.0 : 0.0; });
  r.mean_probability = mean_over_tokens(plan, tokens, probability_change);
  r.rms_probability = sqrt_of(mean_over_tokens(plan, tokens, [](const TokenDivergence& t) {
    return probability_change(t) * probability_change(t);
  }));
  std::vector<double> kl, change;
  for (const TokenDivergence& t : tokens) {
    kl.push_back(t.kl);
    change.push_back(probability_change(t));
  }
  r.kl_quantiles = quantiles_of(std::move(kl));
  r.probability_quantiles = quantiles_of(std::move(change));
  r.correlation = correlation_of(tokens);
  r.state_bytes =
      static_cast<int64_t>(tokens.size()) * kNumbersOfToken * static_cast<int64_t>(sizeof(double));
  return r;
}

DivergenceMeasurement measure_divergence(const Model& base, const TokenPlan& base_plan,
                                         const Model& other, const TokenPlan& plan,
                                         const Context& context, WorkJournal* journal) {
  check_same(base, base_plan, other, plan);
  Comparison comparison(base, other, plan, context);
  LossSums base_sums(plan), other_sums(plan);
  std::vector<TokenDivergence> tokens;
  const auto windows = static_cast<int64_t>(plan.windows.size());
  context.progress->begin("divergence", plan.read());
  double total = 0;
  for (int64_t i = 0; i < windows; ++i) {
    context.stop.check();
    const bool known = journal != nullptr && i < std::ssize(journal->finished());
    const std::vector<double> numbers = known ? journal->finished()[i] : comparison.window(i);
    if (!known && journal != nullptr) journal->add(numbers);
    base_sums.add(i, numbers.at(0));
    other_sums.add(i, numbers.at(1));
    for (size_t n = 2; n + kNumbersOfToken <= numbers.size(); n += kNumbersOfToken) {
      tokens.push_back({numbers[n], numbers[n + 1], numbers[n + 2], numbers[n + 3] != 0});
      total += numbers[n];
    }
    context.progress->advance(
        plan.windows[i].size - 1,
        fmt::format("mean KL {:.5f} so far", total / static_cast<double>(tokens.size())));
  }
  context.progress->end();
  DivergenceMeasurement result{summarize_divergence(plan, tokens), base_sums.result(),
                               other_sums.result()};
  result.divergence.ratio = perplexity_ratio(result.other, result.base);
  result.divergence.state_bytes += comparison.bytes();
  return result;
}

}  // namespace qwb
