#include "lib/report/judgements.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "lib/report/figure_text.h"
#include "lib/report/pareto.h"

namespace qwb::report {
namespace {

struct Words {
  const char* metric;
  const char* best;
  const char* worst;
};
constexpr Words kRanked[] = {
    {"size", "smallest", "largest"},
    {"ratio", "least perplexity lost", "most perplexity lost"},
    {"kl", "least divergence from the original", "most divergence from the original"},
    {"prefill", "fastest prefill", "slowest prefill"},
    {"decode", "fastest decode", "slowest decode"},
    {"memory", "least memory", "most memory"},
    {"joules_prompt", "least energy per prompt token", "most energy per prompt token"},
    {"joules_generated", "least energy per generated token", "most energy per generated token"}};

class Judge {
 public:
  explicit Judge(const Report& report) : report_(report) {}

  std::vector<Judgement> all() {
    for (const Column& column : report_.columns) {
      for (const Words& words : kRanked) {
        if (column.metric.id == words.metric) rank(column, words.best, words.worst);
      }
      if (column.metric.group == MetricGroup::tasks) {
        const std::string name = column.metric.title;
        rank(column, "best " + name, "worst " + name);
      }
      if (column.metric.id == "ratio") losses(column);
      for (const char* cost : {"prefill", "decode", "joules_generated", "memory"}) {
        if (column.metric.id == cost) against_original(column);
      }
      if (column.metric.id == "ratio" || column.metric.id == "kl") beaten(column);
    }
    makings();
    std::stable_sort(judgements_.begin(), judgements_.end(),
                     [](const Judgement& a, const Judgement& b) {
                       return a.version != b.version ? a.version < b.version : a.good && !b.good;
                     });
    return std::move(judgements_);
  }

 private:
  void say(size_t version, bool good, std::string text) {
    judgements_.push_back({version, good, std::move(text)});
  }
  const std::string& name(size_t version) const { return report_.versions[version].name; }
  static std::string suffix(const Column& column) {
    return column.number == 0 ? "" : " [" + std::to_string(column.number) + "]";
  }
  // The repetitions of a single run do not show how the machine varies over time: joules are
  // measured in turns, timings one version after the other.
  static std::string runs(const Column& column) {
    const bool several = std::any_of(column.figures.begin(), column.figures.end(),
                                     [](const Figure& f) { return f.remark == kSeveralRuns; });
    return column.metric.group == MetricGroup::speed && !several ? " (one run each)" : "";
  }

  // The versions whose error in this column is known.
  std::vector<size_t> judged(const Column& column) const {
    std::vector<size_t> versions;
    for (size_t v = 0; v < column.figures.size(); ++v) {
      if (possible_values(column, column.figures[v])) versions.push_back(v);
    }
    return versions;
  }

  void rank(const Column& column, const std::string& best, const std::string& worst) {
    const std::vector<size_t> versions = judged(column);
    if (versions.size() < 2) return;
    const auto better = [&](size_t a, size_t b) {
      const double x = *column.figures[a].value, y = *column.figures[b].value;
      return column.metric.better == Better::lower ? x < y : x > y;
    };
    std::vector<size_t> order = versions;
    std::stable_sort(order.begin(), order.end(), better);
    const size_t first = order.front(), last = order.back();
    bool alone = true, surely_worst = true;
    for (const size_t v : order) {
      if (v != first) alone &= surely_better(column, column.figures[first], column.figures[v]);
      if (v != last) surely_worst &= surely_better(column, column.figures[v], column.figures[last]);
    }
    const std::string of =
        fmt::format(" of {} measured", versions.size()) + suffix(column) + runs(column);
    if (alone) {
      say(first, true,
          fmt::format("{}{}: {}; next is {} with {}", best, of,
                      cited(column, column.figures[first]), name(order[1]),
                      cited(column, column.figures[order[1]])));
    } else {
      among_the_best(column, best, order, of);
    }
    if (surely_worst && versions.size() > 2)
      say(last, false, fmt::format("{}{}: {}", worst, of, cited(column, column.figures[last])));
  }

  // Versions that cannot be distinguished from the best; nothing is said if these are more than
  // half of all.
  void among_the_best(const Column& column, const std::string& best,
                      const std::vector<size_t>& order, const std::string& of) {
    const Figure& leader = column.figures[order.front()];
    std::vector<size_t> equal;
    for (const size_t v : order) {
      if (!surely_better(column, leader, column.figures[v])) equal.push_back(v);
    }
    if (2 * equal.size() > order.size()) return;
    for (const size_t v : equal) {
      say(v, true,
          fmt::format("within error of the {}{}: {}{}", best, of, cited(column, column.figures[v]),
                      v == order.front() ? std::string()
                                         : fmt::format("; {} has {}", name(order.front()),
                                                       cited(column, leader))));
    }
  }

  // Against the original itself, paired: whether anything was lost at all.
  void losses(const Column& column) {
    const auto percent = [](double ratio) { return fmt::format("{:.2f} %", 100 * (ratio - 1)); };
    for (const size_t v : judged(column)) {
      const Figure& f = column.figures[v];
      if (f.bounds->low > 1) {
        say(v, false,
            fmt::format("perplexity {} above the original's (95 %: {} to {}){}", percent(*f.value),
                        percent(f.bounds->low), percent(f.bounds->high), suffix(column)));
      } else {
        say(v, true,
            fmt::format("no loss of perplexity beyond error{}: ratio {}, so at most {} with 95 % "
                        "confidence",
                        suffix(column), cited(column, f), percent(std::max(1.0, f.bounds->high))));
      }
    }
  }

  void against_original(const Column& column) {
    for (size_t o = 0; o < report_.versions.size(); ++o) {
      if (!report_.versions[o].original) continue;
      for (const size_t v : judged(column)) {
        if (v != o) compare(column, v, o);
      }
      return;
    }
  }

  void compare(const Column& column, size_t version, size_t original) {
    const Figure &f = column.figures[version], &base = column.figures[original];
    const bool good = surely_better(column, f, base), bad = surely_better(column, base, f);
    if ((!good && !bad) || *base.value <= 0) return;
    say(version, good,
        fmt::format("{}{}{}: {:.2f} times the original's, {} against {}", column.metric.title,
                    suffix(column), runs(column), *f.value / *base.value, cited(column, f),
                    cited(column, base)));
  }

  // Another version is smaller and surely loses less.
  void beaten(const Column& loss) {
    const Column* size = report_.find("size");
    if (size == nullptr) return;
    for (const size_t v : judged(loss)) {
      for (const size_t other : judged(loss)) {
        if (!size->figures[v].value || !size->figures[other].value) continue;
        if (*size->figures[other].value > *size->figures[v].value ||
            !surely_better(loss, loss.figures[other], loss.figures[v]) ||
            !beaten_.insert({v, other}).second)
          continue;
        say(v, false,
            fmt::format("{} loses less and is no larger: {} {} at {}, against {} at {}{}",
                        name(other), loss.metric.title, cited(loss, loss.figures[other]),
                        cited(*size, size->figures[other]), cited(loss, loss.figures[v]),
                        cited(*size, size->figures[v]), suffix(loss)));
        break;
      }
    }
  }

  void makings() {
    for (size_t v = 0; v < report_.versions.size(); ++v) {
      const auto& making = report_.versions[v].making;
      if (!making) continue;
      const std::string time = making->seconds
                                   ? "; made in " + value_text(Quantity::seconds, *making->seconds)
                                   : std::string();
      if (making->calibration.empty())
        say(v, true, "needs no calibration data" + time);
      else
        say(v, false, "needs calibration data: " + making->calibration + time);
    }
  }

  const Report& report_;
  std::vector<Judgement> judgements_;
  std::set<std::pair<size_t, size_t>> beaten_;  // who is beaten by whom
};

}  // namespace

std::vector<Judgement> judge(const Report& report) {
  return Judge(report).all();
}

}  // namespace qwb::report
