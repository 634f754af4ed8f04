#include "tools/common/sampling_flags.h"

#include "tools/common/number_checks.h"

namespace qwb {

void add_sampling_flags(CLI::App& app, SamplingSettings& s) {
  constexpr const char* kGroup = "Sampling";
  const auto add = [&](const char* flag, auto& value, const char* help, const char* type) {
    return app.add_option(flag, value, help)->capture_default_str()->type_name(type)->group(kGroup);
  };
  add("--temperature", s.temperature, "0: always the likeliest token (greedy)", "T");
  add("--top-k", s.top_k, "Choose among the K likeliest tokens; 0: all", "K");
  add("--top-p", s.top_p, "Choose among the likeliest tokens that make up this probability; 1: all",
      "P");
  add("--min-p", s.min_p,
      "Leave out tokens below this share of the likeliest one's probability; 0: none", "P");
  add("--repetition-penalty", s.repetition_penalty,
      "Divide the logits of tokens seen before; 1: off", "X");
  add("--seed", s.seed, "Seed of the random choices", "S")->check(between(0, 0x1p63));
}

Json given_sampling(const CLI::App& app, const SamplingSettings& s) {
  Json given = Json::object();
  const auto take = [&](const char* flag, const char* name, const Json& value) {
    if (app.count(flag) > 0) given[name] = value;
  };
  take("--temperature", "temperature", s.temperature);
  take("--top-k", "top_k", s.top_k);
  take("--top-p", "top_p", s.top_p);
  take("--min-p", "min_p", s.min_p);
  take("--repetition-penalty", "repetition_penalty", s.repetition_penalty);
  take("--seed", "seed", s.seed);
  return given;
}

}  // namespace qwb
