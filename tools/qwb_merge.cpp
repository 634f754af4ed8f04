// qwb-merge: adapters become part of a model, or one adapter.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "formats/gguf/file.h"
#include "formats/hf/checkpoint.h"
#include "formats/qwb/artifact.h"
#include "formats/registry.h"
#include "lib/adapt/gguf_adapter.h"
#include "lib/adapt/peft_writer.h"
#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/base/text.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/merge_job.h"
#include "lib/jobs/quantize_job.h"
#include "lib/jobs/sources.h"
#include "lib/model/architecture.h"
#include "tools/common/command_line.h"
#include "tools/common/number_checks.h"
#include "tools/common/quantities.h"
#include "tools/common/quantize_flags.h"
#include "tools/common/tool.h"
#include "tools/manual/declaration.h"

namespace qwb {
namespace {

constexpr const char* kMergeExamples =
    "Examples:\n"
    "  qwb-merge --model ./llama --adapter ./tuned --out ./llama-tuned\n"
    "  qwb-merge --model ./llama-nf4 --adapter ./tuned --onto dequantized --dtype f32 --out ./m\n"
    "  qwb-merge --model ./llama-nf4 --adapter ./tuned --then 'gptq --bits 4 --calib demo' --out "
    "./m-gptq\n"
    "  qwb-merge --model ./llama --adapter ./a:0.5 --adapter ./b:0.5 --combine exact --out ./ab\n"
    "  qwb-merge --model ./llama --extract ./llama-tuned --rank 32 --out ./adapter\n"
    "  qwb-merge --model ./llama --adapter ./tuned --to gguf --out tuned.gguf\n"
    "The path of what was made is the only thing on standard output.";

constexpr double kLittleKept = 0.9;  // a share below which a note warns

struct Options {
  std::string model, onto = "source", dtype = "same", out, then, combine, to, extract;
  std::vector<std::string> adapters;
  std::optional<int64_t> check_kl;
  std::optional<double> max_kl;
  int64_t rank = 0, max_shard_bytes = 0;
  bool portable = false, report = false;

  // An adapter is made, no model.
  bool makes_adapter() const {
    return !combine.empty() || !to.empty() || !extract.empty() || portable;
  }
};

std::optional<DType> merge_dtype(const std::string& text) {
  const std::string name = lower_case(text);
  if (name == "same") return std::nullopt;
  if (name == "f32") return DType::f32;
  if (name == "bf16") return DType::bf16;
  if (name == "f16") return DType::f16;
  throw Error(ErrorKind::usage, "--dtype must be same, f32, bf16 or f16, not '" + text + "'");
}

void check_options(const Options& o) {
  const auto refuse = [](bool wrong, const std::string& what) {
    if (wrong) throw Error(ErrorKind::usage, what);
  };
  refuse(o.out.empty(), "no --out: name what is to be made");
  refuse(o.adapters.empty() && o.extract.empty(), "no --adapter given");
  refuse(!o.adapters.empty() && !o.extract.empty(), "--extract makes an adapter: it takes none");
  refuse(!o.extract.empty() && o.rank == 0, "--extract needs --rank N");
  refuse(o.rank > 0 && o.extract.empty() && o.combine != "svd",
         "--rank is for --combine svd and --extract");
  refuse(o.makes_adapter() && !o.then.empty(), "--then is for merged models, not for adapters");
  refuse(o.makes_adapter() && (o.check_kl || o.max_kl),
         "--check-kl and --max-kl are for merged models, not for adapters");
  refuse(o.max_kl && o.check_kl == 0, "--max-kl needs the check that --check-kl 0 leaves out");
  refuse(!o.then.empty() && o.dtype != "same",
         "--then takes the merged values as they are, in f32: leave --dtype out");
}

// --- a merged model

double least_kept(const std::vector<ModuleMerge>& modules, std::string& name) {
  double least = 1;
  for (const ModuleMerge& m : modules) {
    if (m.kept < least || name.empty()) least = m.kept, name = m.module;
  }
  return least;
}

void log_modules(const std::vector<ModuleMerge>& modules, const Options& o, Tool& tool) {
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
int check_divergence(const MergeJob& job, const Path& made, const Options& o, Json& json,
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
QuantizeRequest then_request(const Options& o, const Path& model, Tool& tool) {
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

void quantize_merged(const MergeJob& job, const Options& o, const Path& place, Json& json,
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

int merge(const Options& o, const Path& model, Tool& tool) {
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

// --- an adapter

CombinedAdapter made_adapter(const MergeJob& job, const Options& o, Tool& tool) {
  if (!o.extract.empty()) {
    const Path tuned = model_folder(o.extract, tool.context());
    require_model_folder(tuned);
    tool.reads(tuned);
    const OpenModel open = open_model(tuned, tool.context());
    return extracted(*job.base().source, *open.source, job.base_modules(), o.rank, tool.context());
  }
  if (o.combine == "svd") return truncated(job.adapters(), o.rank, tool.context());
  if (o.combine.empty() && job.adapters().size() == 1 && job.adapters().front().weight == 1)
    return {job.adapters().front().adapter};
  return {stacked(job.adapters())};
}

void log_energy(const std::vector<KeptEnergy>& kept, Tool& tool) {
  if (kept.empty()) return;
  double part = 0, all = 0;
  const KeptEnergy* least = &kept.front();
  for (const KeptEnergy& one : kept) {
    part += one.share * one.norm * one.norm, all += one.norm * one.norm;
    if (one.share < least->share) least = &one;
  }
  tool.note(fmt::format("{} modules; the rank keeps {:.3f} % of the energy (least: {} {:.2f} %)",
                        kept.size(), all > 0 ? 100 * part / all : 100, least->module,
                        100 * least->share));
}

int make_adapter(const Options& o, const Path& model, Tool& tool) {
  const std::string to = o.to.empty() ? "peft" : lower_case(o.to);
  const bool gguf = to == "gguf";
  const Path place = gguf ? tool.outputs().file(o.out, "--out", is_gguf_file)
                          : tool.outputs().folder(o.out, "--out");
  const MergeJob job(
      {.model = model, .adapters = parse_adapter_uses(o.adapters), .onto = "dequantized"},
      tool.context());
  CombinedAdapter made = made_adapter(job, o, tool);
  Adapter& adapter = made.adapter;
  if (adapter.settings.base.empty()) adapter.settings.base = model.string();
  log_energy(made.kept, tool);
  const bool force = tool.outputs().force();
  if (!tool.dry_run() && gguf) {
    const std::string where = job.base().config_name();
    const ModelConfig config = parse_config(job.base().config, where);
    write_gguf_adapter(o.portable ? portable(adapter) : adapter, job.base().config, config, place,
                       force);
  } else if (!tool.dry_run()) {
    write_peft(adapter, place,
               {.base = job.base_modules(), .portable = o.portable, .replace = force},
               tool.context());
  }
  tool.note(fmt::format("{} modules, {} values", adapter.modules.size(), adapter.values()));
  Json json = {{"schema", 1},
               {"folder", tool.dry_run() ? Json(nullptr) : Json(o.out)},
               {"format", to},
               {"hash", content_hash(adapter)},
               {"values", adapter.values()},
               {"modules", Json::array()}};
  for (size_t i = 0; i < adapter.modules.size(); ++i) {
    Json entry = {{"name", adapter.modules[i].module}, {"rank", adapter.modules[i].rank}};
    if (i < made.kept.size()) entry["kept_energy"] = made.kept[i].share;
    json["modules"].push_back(std::move(entry));
  }
  if (tool.json()) {
    tool.print(json.dump() + "\n");
  } else if (!tool.dry_run()) {
    tool.print(o.out + "\n");
  }
  return 0;
}

int run_merge(const Options& o, Tool& tool) {
  if (tool.dry_run()) keep_no_memos();
  check_options(o);
  const Path model = choose_model(o.model, tool.context());
  if (!tool.dry_run()) require_undamaged_if_summed(model, tool.context().stop);
  tool.reads(model);
  for (const AdapterUse& use : parse_adapter_uses(o.adapters)) tool.reads(use.place);
  return o.makes_adapter() ? make_adapter(o, model, tool) : merge(o, model, tool);
}

void add_adapter_making(CLI::App& app, Options& o) {
  constexpr const char* kGroup = "An adapter instead of a model";
  const auto group = [](CLI::Option* option) { option->group(kGroup); };
  CLI::Option* combine =
      app.add_option("--combine", o.combine,
                     "make one adapter of several: exact (their ranks add up) or svd (cut off at "
                     "--rank)")
          ->check(one_of({"exact", "svd"}))
          ->type_name("HOW");
  group(combine);
  group(app.add_option("--extract", o.extract,
                       "make an adapter of what this model has learned since --model")
            ->type_name("MODEL"));
  group(app.add_option("--rank", o.rank,
                       "rank of --extract and --combine svd [svd: the largest of the adapters]")
            ->check(between(1, 65536))
            ->type_name("N"));
  group(app.add_option("--to", o.to, "write it as peft or gguf [peft]")
            ->check(one_of({"peft", "gguf"}))
            ->type_name("FORMAT"));
  group(app.add_flag("--portable", o.portable,
                     "fold scales into the factors and fill up to one rank, for readers that know "
                     "plain LoRA only"));
}

void add_options(CLI::App& app, Options& o) {
  app.add_option("--model", o.model,
                 "The base that the adapters were trained beside, in any format (default: "
                 "$QWB_MODEL, else the demo llama)")
      ->type_name("MODEL");
  app.add_option("--adapter", o.adapters,
                 "A LoRA adapter, a folder as PEFT writes it or a GGUF file; DIR:WEIGHT multiplies "
                 "what it adds; may be repeated")
      ->type_name("DIR[:WEIGHT]")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--out", o.out, "The folder (with --to gguf: file) to make")->type_name("PLACE");
  app.add_option("--onto", o.onto,
                 "Merge into: source, the unquantized model behind the base; dequantized, the "
                 "base's own values; or another model")
      ->capture_default_str()
      ->type_name("WHAT");
  CLI::Option* dtype =
      app.add_option("--dtype", o.dtype, "Type of the merged model: same, f32, bf16 or f16")
          ->capture_default_str()
          ->type_name("TYPE");
  offer(dtype, {"same", "f32", "bf16", "f16"});
  app.add_option("--then", o.then,
                 "Quantize the merged values, in f32 and without a file between: a method and "
                 "flags of qwb-quantize in quotes")
      ->type_name("METHOD...");
  app.add_option_function<int64_t>(
         "--check-kl", [&o](int64_t windows) { o.check_kl = windows; },
         "Compare what was made with the base and its adapters over so many windows of the demo "
         "text [8]; 0: do not")
      ->check(between(0, 1e6))
      ->type_name("WINDOWS");
  app.add_option_function<double>(
         "--max-kl", [&o](double most) { o.max_kl = most; },
         "Exit with 6 if the mean KL is above this")
      ->check(between(0, 1e6))
      ->type_name("NATS");
  app.add_flag("--report", o.report, "Tell of every module what the merge kept");
  add_size(app, "--max-shard-size", o.max_shard_bytes,
           "Split the weights into files of at most this size [5GB]");
  add_adapter_making(app, o);
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {.name = "qwb-merge",
                              .summary =
                                  "Merges LoRA adapters into a model, and tells what that "
                                  "keeps; combines, extracts and converts adapters.",
                              .examples = qwb::kMergeExamples,
                              .has_dry_run = true,
                              .writes = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::Options>();
    qwb::add_options(app, *options);
    return [options, &tool] { return qwb::run_merge(*options, tool); };
  });
}
