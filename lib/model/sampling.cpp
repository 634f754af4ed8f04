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

// Best first; ties by token so that every run sees the same order.
bool is_better(const Candidate& a, const Candidate& b) {
  return a.value != b.value ? a.value > b.value : a.token < b.token;
}

// Logits after the penalties, by token.
std::vector<Candidate> penalized(std::span<const float> logits, std::span<const int32_t> seen,
                                 std::span<const int32_t> made, const SamplingSettings& s) {
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]))
      throw Error(ErrorKind::failed, "logit of token " + std::to_string(i) + " is NaN");
    candidates.push_back({static_cast<int32_t>(i), static_cast<double>(logits[i])});
  }
  const auto each_first = [&](std::span<const int32_t> tokens, const auto& change) {
    std::vector<bool> done(logits.size());
    for (const int32_t token : tokens) {
      const auto i = static_cast<size_t>(token);
      if (i >= logits.size() || done[i]) continue;
      done[i] = true;
      change(candidates[i].value);
    }
  };
  if (s.repetition_penalty != 1) {
    each_first(seen, [&](double& value) {
      value *= value > 0 ? 1 / s.repetition_penalty : s.repetition_penalty;
    });
  }
  if (s.frequency_penalty != 0) {
    for (const int32_t token : made) {
      if (static_cast<size_t>(token) < candidates.size())
        candidates[static_cast<size_t>(token)].value -= s.frequency_penalty;
    }
  }
  if (s.presence_penalty != 0)
    each_first(made, [&](double& value) { value -= s.presence_penalty; });
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
  for (const double penalty : {s.frequency_penalty, s.presence_penalty}) {
    if (!(penalty >= -2 && penalty <= 2))
      refuse("frequency and presence penalty must be between -2 and 2");
  }
}

Sampler::Sampler(const SamplingSettings& settings) : settings_(settings), rng_(settings.seed) {
  check_sampling(settings);
}

std::vector<double> Sampler::distribution(std::span<const float> logits,
                                          std::span<const int32_t> seen,
                                          std::span<const int32_t> made) const {
  std::vector<Candidate> candidates = penalized(logits, seen, made, settings_);
  std::vector<double> result(logits.size());
  if (settings_.temperature == 0) {
    result[std::min_element(candidates.begin(), candidates.end(), is_better)->token] = 1;
    return result;
  }
  std::sort(candidates.begin(), candidates.end(), is_better);
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

int32_t Sampler::next(std::span<const float> logits, std::span<const int32_t> seen,
                      std::span<const int32_t> made) {
  const std::vector<double> probabilities = distribution(logits, seen, made);
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
