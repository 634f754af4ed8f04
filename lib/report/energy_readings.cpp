#include <fmt/format.h>

#include "lib/report/clean_text.h"
#include "lib/report/fields.h"
#include "lib/report/readings.h"

namespace qwb::report {
namespace {

// The first window of this work, as a pointer; empty without.
std::string window_of(const Fields& fields, const std::string& work) {
  for (int i = 0; fields.has("/energy/windows/" + std::to_string(i)); ++i) {
    std::string window = "/energy/windows/" + std::to_string(i);
    if (fields.text(window + "/work") == work) return window;
  }
  return {};
}

// Joules of different sources and of different work are different things.
std::string energy_condition(const Fields& fields, const std::string& window, bool perplexity) {
  const std::string quality = fields.text(window + "/quality");
  std::string source = fields.text(window + "/method");
  for (const char* key : {"/device", "/domain"}) {
    if (const std::string word = fields.text(window + key); !word.empty()) source += ", " + word;
  }
  std::string work = "while computing the perplexity";
  if (!perplexity) {
    work = fmt::format("prompt {}, generated {}, depth {}", fields.integer(window + "/n_prompt"),
                       fields.integer(window + "/n_gen"), fields.integer(window + "/n_depth"));
  }
  const std::string cpu = fields.text("/speed/cpu");
  const bool told = cpu.empty() || source.find(cpu) != std::string::npos;
  return clean_text(
      fmt::format("{} by {}; {}{}{}", quality, source, work, told ? "" : "; ", told ? "" : cpu));
}

std::string why_no_joules(const Fields& fields, const std::string& work) {
  if (!fields.has("/energy")) return "not measured (qwb-eval --energy)";
  if (fields.has("/energy/reasons/0")) return clean_text(fields.text("/energy/reasons/0"));
  return "no " + work + " among the work measured";
}

struct Work {
  const char* id;
  const char* title;
  const char* work;
  const char* unit;  // of the record: "joules_per_generated_token"; null: read off the window
  bool net;
};

constexpr Work kWorks[] = {
    {"joules_generated", "energy per generated token", "decode", "joules_per_generated_token",
     false},
    {"joules_generated_net", "energy per generated token, net of idle", "decode",
     "joules_per_generated_token", true},
    {"joules_prompt", "energy per prompt token", "prefill", "joules_per_prompt_token", false},
    {"joules_request", "energy per request", "request", "joules_per_request", false},
    {"joules_perplexity", "energy per token of the perplexity", "perplexity", nullptr, false}};

Figure joules(const Fields& fields, const Work& work, const std::string& window) {
  Figure figure;
  figure.why = why_no_joules(fields, work.work);
  if (window.empty()) return figure;
  const std::string part = work.unit == nullptr ? window : std::string("/energy/") + work.unit;
  figure.value = fields.number(part + (work.unit == nullptr ? "/joules_per_token"
                                       : work.net           ? "/net"
                                                            : "/gross"));
  const std::string spread = work.unit == nullptr ? window + "/rounds" : part;
  const auto least = fields.number(spread + "/min"), most = fields.number(spread + "/max");
  // Net joules share the rounds' spread, but not the baseline's error: nothing is claimed of them.
  if (least && most && !work.net && *most > *least) figure.bounds = Interval{*least, *most};
  figure.estimated = fields.text(window + "/quality") != "measured";
  figure.remark = clean_text(fields.text(window + "/remark"));
  if (const Json* noisy = fields.find(window + "/noisy"); noisy != nullptr && *noisy == true) {
    figure.noisy = true;
    figure.remark = kNoisy;
  }
  if (work.net && fields.has("/energy") && !figure.value && fields.number("/energy/joules"))
    figure.why = "no idle baseline of this source";
  return figure;
}

}  // namespace

void add_energy_readings(const Fields& fields, std::vector<Reading>& readings) {
  for (const Work& work : kWorks) {
    const std::string window = window_of(fields, work.work);
    // Most records have neither: a column of reasons would be useless.
    if (window.empty() && (work.unit == nullptr || work.net || work.work == std::string("request")))
      continue;
    Figure figure = joules(fields, work, window);
    const std::string condition =
        figure.value ? energy_condition(fields, window, work.unit == nullptr) : std::string();
    Metric metric;
    metric.id = work.id;
    metric.title = work.title;
    metric.group = MetricGroup::energy;
    metric.unit = Quantity::joules;
    metric.bounds = work.net ? BoundsKind::none : BoundsKind::range;
    readings.push_back({std::move(metric), condition, std::move(figure)});
  }
}

}  // namespace qwb::report
