#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "lib/base/error.h"
#include "lib/jobs/merge_job.h"
#include "lib/jobs/quantize_job.h"
#include "tools/common/quantities.h"
#include "tools/common/quantize_flags.h"
#include "tools/merge/make.h"

namespace qwb {
namespace {

constexpr double kLittleKept = 0.9;  // a share below which a note warns

double least_kept(const std::vector<ModuleMerge>& modules, std::string& name) {
  double least = 1;
  for (const ModuleMerge& m : modules) {
    if (m.kept < least || name.empty()) least = m.kept, name = m.module;
  }
  return least;
}

void log_modules(const std::vector<ModuleMerge>& modules, const MergeOptions& o, Tool& tool) {
  double kept = 0, all = 0, error = 0;
  bool errors = false;
  for (const ModuleMerge& m : modules) {
    const double square = m.delta * m.delta;
    kept += m.kept * square, all += square;
    if (m.base_error) error += *m.base_error * *m.base_error * square, errors = true;
  }
  std::string name;
  const double least = least_kept(modules, name);
  if (all > 0)
    tool.note(fmt::format("{} modules keep {:.3f} % of what is added (least: {} {:.2f} %)",
                          modules.size(), 100 * kept / all, name, 100 * least));
  if (least < kLittleKept)
    tool.note(
        "the type rounds much of it away: --dtype f32, or --then to quantize the exact values");
  if (errors && all > 0)
    tool.note(
        fmt::format("what quantizing the base had changed, which the adapter was trained "
                    "beside and the merge leaves behind: {:.3g} times what is added",
                    std::sqrt(error / all)));
  if (!o.report) return;
  Table table({{"module"},
               {"kept", Table::Align::right},
               {"added / weight", Table::Align::right},
               {"base's error / added", Table::Align::right}});
  for (const ModuleMerge& m : modules) {
    table.add_row({m.module, fmt::format("{:.3f} %", 100 * m.kept), fmt::format("{:.3e}", m.share),
                   m.base_error ? fmt::format("{:.3g}", *m.base_error) : "-"});
  }
  std::istringstream lines(tool.table_text(std::move(table)));
  for (std::string line; std::getline(lines, line);) tool.note(line);
}

Json divergence_of_merge(const DivergenceResult& d) {
  return {{"windows", d.windows},
          {"tokens", d.tokens},
          {"mean_kl", d.mean_kl.value},
          {"p99_kl", d.kl_quantiles.at(7)},
          {"max_kl", d.kl_quantiles.at(9)},
          {"same_top", d.same_top.value},
          {"perplexity_ratio", d.ratio.ratio.value}};
}

// How far what was made is from the base with its adapters. The exit code.
int check_divergence(const MergeJob& job, const Path& made, const MergeOptions& o, Json& json,
                     Tool& tool) {
  constexpr int64_t kWindows = 8;
  const int64_t windows = o.check_kl.value_or(kWindows);
  json["divergence"] = nullptr;
  if (windows == 0) return 0;
  const DivergenceMeasurement measured = job.divergence(made, windows, tool.context());
  const DivergenceResult& d = measured.divergence;
  json["divergence"] = divergence_of_merge(d);
  tool.note(
      fmt::format("against the base with the adapters beside it, {} tokens of the demo text: "
                  "mean KL {:.3e}, p99 {:.3e}, same top token {:.2f} %, perplexity ratio {:.4f}",
                  d.tokens, d.mean_kl.value, d.kl_quantiles.at(7), 100 * d.same_top.value,
                  d.ratio.ratio.value));
  if (!o.max_kl || d.mean_kl.value <= *o.max_kl) return 0;
  tool.log_error(fmt::format("quality gate: {}: the mean KL is {:.3e}, --max-kl {:g}",
                             made.string(), d.mean_kl.value, *o.max_kl));
  return static_cast<int>(ErrorKind::quality_gate);
}

// "gptq --bits 4 --calib demo", as qwb-quantize takes it.
QuantizeRequest then_request(const MergeOptions& o, const Path& model, Tool& tool) {
  CLI::App app("--then");
  QuantizeFlags flags(app);
  std::istringstream words(o.then);
  std::vector<std::string> all;
  for (std::string word; words >> word;) all.push_back(word);
  if (!all.empty() && !all.front().starts_with("-")) all.insert(all.begin(), "--method");
  all.insert(all.end(), {"--model", model.string()});
  std::ranges::reverse(all);  // as CLI11 takes them
  try {
    app.parse(all);
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorKind::usage, std::string("--then: ") + error.what(), {},
                "what follows is a method and flags of qwb-quantize");
  }
  return flags.request(tool);
}

void quantize_merged(const MergeJob& job, const MergeOptions& o, const Path& place, Json& json,
                     Tool& tool) {
  QuantizeRequest request = then_request(o, job.onto().folder, tool);
  request.place = place;
  request.replace = tool.outputs().force();
  request.made_of = job.made_of();
  const QuantizeJob quantize(job.handed_on(), request, tool.context());
  json["method"] = quantize.plan().method_name();
  json["bytes"] = quantize.artifact_bytes();
  if (!tool.dry_run()) quantize.run(nullptr, {}, tool.context());
}

}  // namespace

int make_merged_model(const MergeOptions& o, const Path& model, Tool& tool) {
  const Path place = tool.outputs().folder(o.out, "--out");
  const MergeJob job({.model = model,
                      .adapters = parse_adapter_uses(o.adapters),
                      .onto = o.onto,
                      .dtype = merge_dtype(o.dtype),
                      .max_shard_bytes = o.max_shard_bytes,
                      .replace = tool.outputs().force()},
                     tool.context());
  tool.reads(job.onto().folder);
  const std::vector<ModuleMerge> modules = job.measure(!o.then.empty(), tool.context());
  log_modules(modules, o, tool);
  Json json = {{"schema", 1},
               {"folder", tool.dry_run() ? Json(nullptr) : Json(o.out)},
               {"onto", job.onto().folder.string()},
               {"adapters", job.made_of().at("adapters")}};
  if (o.then.empty()) {
    json["bytes"] = job.tensor_bytes(tool.context());
    if (!tool.dry_run()) job.write(place, tool.context());
  } else {
    quantize_merged(job, o, place, json, tool);
  }
  tool.note(fmt::format("{}{} of tensors", tool.dry_run() ? "this would be " : "",
                        human_bytes(json.at("bytes").get<int64_t>())));
  json["modules"] = merge_json(modules);
  const int code = tool.dry_run() ? 0 : check_divergence(job, place, o, json, tool);
  if (tool.json()) {
    tool.print(json.dump() + "\n");
  } else if (!tool.dry_run()) {
    tool.print(o.out + "\n");
  }
  return code;
}

}  // namespace qwb
