// The answer at the head of a report: the figures that decide, and what they recommend.
#pragma once

#include <string>
#include <vector>

#include "lib/report/report.h"

namespace qwb::report {

// A version may lose this share of the original's perplexity and still be recommended for what it
// saves.
inline constexpr double kToleratedLoss = 0.05;

struct Recommendation {
  std::string aim;   // "smallest", "fastest", "least energy", "least loss"
  std::string rule;  // by which it was chosen
  std::vector<size_t>
      versions;        // none: `reason` says why nothing is said; several have the same figure
  std::string reason;  // with the figures
};

struct Answer {
  // Size, bits per weight, loss, speed and energy, as far as they were measured: of each the first
  // metric that any version has, under the condition that most versions have.
  std::vector<const Column*> columns;
  std::vector<Recommendation> recommendations;  // empty for a single version
  std::string plot;  // the name of the picture that belongs to it: loss against size
};

// The columns stay those of `report`. Nothing is recommended beyond the bounds of the figures: they
// must lie wholly on the better side of all others.
Answer answer_of(const Report& report);
Answer answer_of(Report&&) = delete;  // the columns stand in the report

// "int8", "int8, nf4", "nothing"
std::string recommended_names(const Report& report, const Recommendation& recommendation);
// The column that measures what was lost: the ratio of perplexities, else the divergence, else
// perplexity.
const Column* loss_column(const Report& report);

}  // namespace qwb::report
