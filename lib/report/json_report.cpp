#include "lib/evaluate/estimate_json.h"
#include "lib/report/answer.h"
#include "lib/report/pareto.h"
#include "lib/report/render.h"

namespace qwb::report {
namespace {

const char* unit_name(Quantity unit) {
  switch (unit) {
    case Quantity::bytes:
      return "bytes";
    case Quantity::bits:
      return "bits";
    case Quantity::plain:
    case Quantity::ratio:
    case Quantity::share:
      return "1";
    case Quantity::nats:
      return "nats per token";
    case Quantity::seconds:
      return "s";
    case Quantity::rate:
      return "tokens/s";
    case Quantity::joules:
      return "J";
  }
  return "";
}

const char* bounds_word(BoundsKind kind) {
  switch (kind) {
    case BoundsKind::exact:
      return "exact";
    case BoundsKind::interval:
      return "interval of 95 %";
    case BoundsKind::range:
      return "range of repetitions";
    case BoundsKind::none:
      return "unknown";
  }
  return "";
}

Json version_record(const Version& version) {
  Json json = {{"name", version.name},
               {"artifact", version.artifact},
               {"method", version.method},
               {"bits", number_json(version.bits)},
               {"int8_forward", version.forward},
               {"original", version.original},
               {"calibration", nullptr},
               {"settings", nullptr}};
  if (version.making) {
    json["calibration"] = text_json(version.making->calibration);
    json["settings"] = version.making->settings;
  }
  return json;
}

Json column_record(const Column& column) {
  Json json = {{"id", column.id()},
               {"title", column.title()},
               {"group", group_title(column.metric.group)},
               {"unit", unit_name(column.metric.unit)},
               {"better", column.metric.better == Better::lower ? "lower" : "higher"},
               {"bounds", bounds_word(column.metric.bounds)},
               {"condition", text_json(column.condition)},
               {"figures", Json::array()}};
  for (const Figure& f : column.figures) {
    const bool bounds = f.value && f.bounds;
    json["figures"].push_back({{"value", number_json(f.value)},
                               {"stderr", number_json(f.value ? f.error : std::nullopt)},
                               {"low", bounds ? Json(f.bounds->low) : Json(nullptr)},
                               {"high", bounds ? Json(f.bounds->high) : Json(nullptr)},
                               {"estimated", f.value ? Json(f.estimated) : Json(nullptr)},
                               {"noisy", f.value ? Json(f.noisy) : Json(nullptr)},
                               {"remark", text_json(f.remark)},
                               {"why", f.value ? Json(nullptr) : text_json(f.why)}});
  }
  return json;
}

Json fronts(const Report& report) {
  Json json = Json::array();
  for (const Plot& plot : plots_of(report, {})) {
    const auto* scatter = std::get_if<ScatterPlot>(&plot.content);
    if (scatter == nullptr) continue;
    Json names = Json::array();
    for (const auto& mark : scatter->marks) {
      if (mark.front) names.push_back(mark.label);
    }
    json.push_back({{"plot", plot.name},
                    {"loss", scatter->y_axis},
                    {"cost", scatter->x_axis},
                    {"front", names}});
  }
  return json;
}

Json module_records(const Report& report, const std::vector<ModuleHistogram>& histograms) {
  Json json = Json::array();
  for (const ModuleHistogram& h : histograms) {
    json.push_back({{"module", h.module},
                    {"version", report.versions[h.version].name},
                    {"low", h.pair.low},
                    {"high", h.pair.high},
                    {"before", h.pair.before},
                    {"after", h.pair.after}});
  }
  return json;
}

Json answer_json(const Report& report) {
  const Answer answer = answer_of(report);
  Json json = {{"metrics", Json::array()}, {"recommended", Json::array()}};
  for (const Column* column : answer.columns) json["metrics"].push_back(column->id());
  for (const Recommendation& r : answer.recommendations) {
    Json names = Json::array();
    for (const size_t v : r.versions) names.push_back(report.versions[v].name);
    json["recommended"].push_back(
        {{"for", r.aim}, {"versions", names}, {"reason", r.reason}, {"rule", r.rule}});
  }
  return json;
}

}  // namespace

Json report_json(const Report& report, const std::vector<ModuleHistogram>& histograms) {
  Json json = {{"schema", 1},
               {"title", report.title},
               {"versions", Json::array()},
               {"metrics", Json::array()}};
  for (const Version& version : report.versions)
    json["versions"].push_back(version_record(version));
  for (const Column& column : report.columns) json["metrics"].push_back(column_record(column));
  json["answer"] = answer_json(report);
  json["pareto"] = fronts(report);
  json["judgements"] = Json::array();
  for (const Judgement& j : report.judgements)
    json["judgements"].push_back(
        {{"version", report.versions[j.version].name}, {"for", j.good}, {"text", j.text}});
  json["block_errors"] = Json::array();
  for (const BlockErrors& errors : block_errors(report)) {
    Json rows = Json::array();
    for (size_t r = 0; r < errors.rows.size(); ++r) {
      Json cells = Json::array();
      for (const auto& cell : errors.cells[r]) cells.push_back(number_json(cell));
      rows.push_back({{"block", errors.rows[r]}, {"errors", cells}});
    }
    json["block_errors"].push_back(
        {{"error", errors.what}, {"versions", errors.versions}, {"rows", rows}});
  }
  json["modules"] = module_records(report, histograms);
  json["problems"] = report.problems;
  return json;
}

}  // namespace qwb::report
