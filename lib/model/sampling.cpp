#include "lib/model/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/error.h"

namespace qwb {
namespace {

struct Candidate {
  int32_t token;
  double value;  // logit, later probability
};

// Penalized logits, best first; ties by token so that every run sees the same order.
std::vector<Candidate> ranked(std::span<const float> logits, std::span<const int32_t> seen,
                              double penalty) {
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]))
      throw Error(ErrorKind::failed, "logit of token " + std::to_string(i) + " is NaN");
    candidates.push_back({static_cast<int32_t>(i), static_cast<double>(logits[i])});
  }
  if (penalty != 1) {
    std::vector<bool> penalized(logits.size());
    for (const int32_t token : seen) {
      const auto i = static_cast<size_t>(token);
      if (i >= logits.size() || penalized[i]) continue;
      penalized[i] = true;
      candidates[i].value *= candidates[i].value > 0 ? 1 / penalty : penalty;
    }
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.value != b.value ? a.value > b.value : a.token < b.token;
  });
  return candidates;
}

void to_probabilities(std::vector<Candidate>& candidates) {
  const double largest = candidates.front().value;
  double sum = 0;
  for (Candidate& c : candidates) sum += c.value = std::exp(c.value - largest);
  for (Candidate& c : candidates) c.value /= sum;
}

}  // namespace

void check_sampling(const SamplingSettings& s) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::usage, what); };
  if (!(s.temperature >= 0 && s.temperature <= 100))
    refuse("temperature must be between 0 and 100");
  if (s.top_k < 0) refuse("top-k must not be negative");
  if (!(s.top_p > 0 && s.top_p <= 1)) refuse("top-p must be above 0 and at most 1");
  if (!(s.min_p >= 0 && s.min_p <= 1)) refuse("min-p must be between 0 and 1");
  if (!(s.repetition_penalty > 0 && s.repetition_penalty <= 100))
    refuse("repetition penalty must be above 0 and at most 100");
}

Sampler::Sampler(const SamplingSettings& settings) : settings_(settings), rng_(settings.seed) {
  check_sampling(settings);
}

std::vector<double> Sampler::distribution(std::span<const float> logits,
                                          std::span<const int32_t> seen) const {
  std::vector<Candidate> candidates = ranked(logits, seen, settings_.repetition_penalty);
  std::vector<double> result(logits.size());
  if (settings_.temperature == 0) {
    result[candidates.front().token] = 1;
    return result;
  }
  // From the largest down: its quotient is 0 at any temperature, where those of the others may
  // become -inf.
  const double largest = candidates.front().value;
  if (!std::isfinite(largest)) throw Error(ErrorKind::failed, "the largest logit is not finite");
  for (Candidate& c : candidates) c.value = (c.value - largest) / settings_.temperature;
  if (settings_.top_k > 0 && settings_.top_k < static_cast<int64_t>(candidates.size()))
    candidates.resize(static_cast<size_t>(settings_.top_k));
  to_probabilities(candidates);
  if (settings_.top_p < 1) {
    double sum = 0;
    size_t keep = 0;
    while (keep < candidates.size() && sum < settings_.top_p) sum += candidates[keep++].value;
    candidates.resize(keep);
  }
  const double least = settings_.min_p * candidates.front().value;
  std::erase_if(candidates, [&](const Candidate& c) { return c.value < least; });
  double sum = 0;
  for (const Candidate& c : candidates) sum += c.value;
  for (const Candidate& c : candidates) result[c.token] = c.value / sum;
  return result;
}

int32_t Sampler::next(std::span<const float> logits, std::span<const int32_t> seen) {
  const std::vector<double> probabilities = distribution(logits, seen);
  double left = rng_.uniform();
  int32_t last = 0;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    if (probabilities[i] == 0) continue;
    last = static_cast<int32_t>(i);
    left -= probabilities[i];
    if (left < 0) return last;
  }
  return last;  // rounding left a crumb
}

}  // namespace qwb
