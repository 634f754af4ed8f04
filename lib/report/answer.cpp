#include "lib/report/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "lib/report/figure_text.h"
#include "lib/report/pareto.h"

namespace qwb::report {
namespace {

int64_t values_in(const Column& column) {
  return std::count_if(column.figures.begin(), column.figures.end(),
                       [](const Figure& f) { return f.value.has_value(); });
}

// Of the first of these metrics that has any value, the column with the most.
const Column* deciding(const Report& report, std::initializer_list<const char*> metrics) {
  for (const char* metric : metrics) {
    const Column* best = nullptr;
    for (const Column& column : report.columns) {
      if (column.metric.id == metric && !column.empty() &&
          (best == nullptr || values_in(column) > values_in(*best)))
        best = &column;
    }
    if (best != nullptr) return best;
  }
  return nullptr;
}

class Advisor {
 public:
  explicit Advisor(const Report& report) : report_(report), loss_(loss_column(report)) {
    if (loss_ != nullptr && loss_->metric.id == "ratio") tolerance_ = loss_;
  }

  std::vector<Recommendation> all() const {
    std::vector<Recommendation> all;
    all.push_back(saving("smallest", "least bytes", deciding(report_, {"size"})));
    all.push_back(
        saving("fastest", "most tokens a second", deciding(report_, {"decode", "prefill"})));
    all.push_back(saving("least energy", "least joules a token",
                         deciding(report_, {"joules_generated", "joules_prompt"})));
    all.push_back(least_loss());
    return all;
  }

 private:
  // Surely within the tolerated loss. The original loses nothing.
  bool tolerated(size_t v) const {
    if (tolerance_ == nullptr || report_.versions[v].original) return true;
    const auto loss = possible_values(*tolerance_, tolerance_->figures[v]);
    return loss && loss->high <= 1 + kToleratedLoss;
  }

  Recommendation saving(const char* aim, const std::string& what, const Column* column) const {
    Recommendation r;
    r.aim = aim;
    r.rule =
        what +
        (tolerance_ != nullptr
             ? fmt::format(
                   ", of those whose perplexity is surely at most {:.0f} % above the original's",
                   100 * kToleratedLoss)
             : "; the loss against the original was not measured and does not count");
    if (column == nullptr) {
      r.reason = "not measured";
      return r;
    }
    std::vector<size_t> candidates;
    for (size_t v = 0; v < report_.versions.size(); ++v) {
      if (tolerated(v)) candidates.push_back(v);
    }
    choose(*column, candidates, r);
    return r;
  }

  Recommendation least_loss() const {
    Recommendation r;
    r.aim = "least loss";
    r.rule = "least loss of the versions other than the original";
    if (loss_ == nullptr) {
      r.reason = "not measured";
      return r;
    }
    r.rule = "least " + loss_->metric.title + " of the versions other than the original";
    std::vector<size_t> candidates;
    for (size_t v = 0; v < report_.versions.size(); ++v) {
      if (!report_.versions[v].original) candidates.push_back(v);
    }
    if (!choose_without_loss(candidates, r)) choose(*loss_, candidates, r);
    return r;
  }

  // A ratio below one is no gain but chance: of the versions without a loss beyond error the
  // smallest wins.
  bool choose_without_loss(const std::vector<size_t>& candidates, Recommendation& r) const {
    const Column* size = deciding(report_, {"size"});
    if (tolerance_ == nullptr || size == nullptr) return false;
    r.rule += "; of those without a loss beyond error the smallest";
    std::vector<size_t> lossless;
    for (const size_t v : candidates) {
      const auto loss = possible_values(*tolerance_, tolerance_->figures[v]);
      if (loss && loss->low <= 1 && size->figures[v].value) lossless.push_back(v);
    }
    if (lossless.empty()) return false;
    const auto bytes = [&](size_t v) { return *size->figures[v].value; };
    const size_t least = *std::min_element(lossless.begin(), lossless.end(),
                                           [&](size_t a, size_t b) { return bytes(a) < bytes(b); });
    for (const size_t v : lossless) {
      if (bytes(v) == bytes(least)) r.versions.push_back(v);
    }
    r.reason = "no loss beyond error: " + list_of(*tolerance_, lossless);
    return true;
  }

  std::string name_with(const Column& column, size_t v) const {
    return report_.versions[v].name + " " + cited(column, column.figures[v]);
  }

  void choose(const Column& column, const std::vector<size_t>& candidates,
              Recommendation& r) const {
    std::vector<size_t> order;
    for (const size_t v : candidates) {
      if (possible_values(column, column.figures[v])) order.push_back(v);
    }
    if (order.size() < 2) {
      r.reason = nothing_to_compare(column, candidates, order);
      return;
    }
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const double x = *column.figures[a].value, y = *column.figures[b].value;
      return column.metric.better == Better::lower ? x < y : x > y;
    });
    std::vector<size_t> equal, worse;
    for (const size_t v : order)
      (surely_better(column, column.figures[order.front()], column.figures[v]) ? worse : equal)
          .push_back(v);
    if (equal.size() > 1 && column.metric.bounds != BoundsKind::exact) {
      r.reason = "within their bounds these cannot be told apart: " + list_of(column, equal);
      return;
    }
    r.versions = equal;
    r.reason = equal.size() == 1 ? cited(column, column.figures[equal[0]]) : list_of(column, equal);
    if (!worse.empty()) r.reason += "; next is " + name_with(column, worse.front());
  }

  std::string list_of(const Column& column, const std::vector<size_t>& versions) const {
    std::string text;
    for (const size_t v : versions) text += (text.empty() ? "" : ", ") + name_with(column, v);
    return text;
  }

  std::string nothing_to_compare(const Column& column, const std::vector<size_t>& candidates,
                                 const std::vector<size_t>& known) const {
    if (candidates.empty() || (candidates.size() == 1 && report_.versions[candidates[0]].original &&
                               tolerance_ != nullptr))
      return fmt::format("no version stays surely within {:.0f} %", 100 * kToleratedLoss);
    if (known.size() == 1)
      return "only " + report_.versions[known[0]].name +
             " has a figure with known bounds to compare";
    for (const size_t v : candidates) {
      const Figure& figure = column.figures[v];
      if (figure.value && !figure.remark.empty()) return figure.remark;
      if (figure.value) return "measured once: the error is not known";
    }
    return "not measured of the versions in question";
  }

  const Report& report_;
  const Column* loss_;
  const Column* tolerance_ = nullptr;
};

}  // namespace

const Column* loss_column(const Report& report) {
  return deciding(report, {"ratio", "kl", "perplexity"});
}

Answer answer_of(const Report& report) {
  Answer answer;
  const Column* loss = loss_column(report);
  for (const Column* column : {deciding(report, {"size"}), deciding(report, {"bpw"}), loss,
                               deciding(report, {"decode", "prefill"}),
                               deciding(report, {"joules_generated", "joules_prompt"})}) {
    if (column != nullptr) answer.columns.push_back(column);
  }
  if (report.versions.size() < 2) return answer;
  answer.recommendations = Advisor(report).all();
  if (loss != nullptr)
    answer.plot =
        (loss->metric.id == "ratio" ? "loss" + loss->id().substr(5) : loss->id()) + "-against-size";
  return answer;
}

std::string recommended_names(const Report& report, const Recommendation& recommendation) {
  std::string names;
  for (const size_t v : recommendation.versions)
    names += (names.empty() ? "" : ", ") + report.versions[v].name +
             (report.versions[v].original ? " (the original)" : "");
  return names.empty() ? "nothing" : names;
}

}  // namespace qwb::report
