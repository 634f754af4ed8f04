// qwb-quantize: a checkpoint becomes an artifact, once.
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <sstream>

#include "formats/convert.h"
#include "formats/hf/checkpoint.h"
#include "formats/qwb/artifact.h"
#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/base/parallel.h"
#include "lib/base/text.h"
#include "lib/jobs/convert_job.h"
#include "lib/jobs/work_report.h"
#include "tools/common/number_checks.h"
#include "tools/common/quantities.h"
#include "tools/common/quantize_flags.h"
#include "tools/common/tool.h"
#include "tools/manual/declaration.h"

namespace qwb {
namespace {

constexpr char kExamples[] = R"(Examples:
  qwb-quantize --method gptq --bits 4 --calib lima
  qwb-quantize --model ~/models/SmolLM2-135M --method nf4
  qwb-quantize --method rtn --bits 3 --group-size 64 --asymmetric --out ./llama-3bit
  qwb-quantize --method gptq --include 'layers.[0-3].*' --exclude down_proj
  qwb-quantize --plan mixed.json --lm-head --report
  qwb-quantize --method gptq --calib text.jsonl --samples 256 --length 2048 --dry-run
The artifact's path is the only thing on standard output: A=$(qwb-quantize --method nf4 -q))";

struct Options {
  std::unique_ptr<QuantizeFlags> wanted;
  std::string out, format, save_calib;
  int64_t max_memory = 0;  // 0: what is free
  int64_t repair_rank = 0;
  bool no_resume = false, no_cache = false, report = false;
};

Json plan_json(const QuantizeJob& job, const Path& place, const MemoryPlan& memory,
               const Context& context) {
  Json json = {{"schema", 1},
               {"modules", job.plan().modules.size()},
               {"weights", job.plan().weights},
               {"module_bytes", job.plan().bytes},
               {"method", job.plan().method_name()},
               {"bits", job.plan().bits()},
               {"kept", job.plan().kept}};
  json["plan"] = Json::array();
  for (const PlannedModule& module : job.plan().modules) {
    json["plan"].push_back({{"name", module.info.name},
                            {"method", module.method->name()},
                            {"settings", module.settings},
                            {"bytes", module.layout.bytes()}});
  }
  json["artifact_bytes"] = job.artifact_bytes();
  json["peak_memory"] = memory.peak;
  json["scratch_bytes"] = memory.scratch;
  json["seconds"] = job.estimate_seconds(context);
  json["disk_free"] = free_disk_space(place);
  json["calibration"] = job.calibration() != nullptr ? job.calibration()->manifest : Json(nullptr);
  return json;
}

int print_plan(const QuantizeJob& job, const Store* store, const Options& options, Tool& tool) {
  const Path scratch = job.scratch_folder(store);
  const Path place = options.out.empty() ? scratch : Path(options.out);
  const bool cached =
      store != nullptr && !store->all_hex().empty() && store->holds(job.key(tool.context()));
  const MemoryPlan memory = job.memory_plan(options.max_memory, scratch);
  Json json = plan_json(job, place, memory, tool.context());
  json["cached"] = cached;
  if (tool.json()) {
    tool.print(json.dump() + "\n");
    return 0;
  }
  Table table({{"module"},
               {"shape", Table::Align::right, 2},
               {"method", Table::Align::left, 1},
               {"bits", Table::Align::right, 1},
               {"bytes", Table::Align::right},
               {"bpw", Table::Align::right, 2}});
  for (const PlannedModule& module : job.plan().modules) {
    const auto weights = static_cast<double>(module.info.out * module.info.in);
    table.add_row(
        {module.info.name, fmt::format("{} x {}", module.info.out, module.info.in),
         module.method->name(), fmt::format("{:g}", module.bits()),
         human_bytes(module.layout.bytes()),
         fmt::format("{:.3f}", 8.0 * static_cast<double>(module.layout.bytes()) / weights)});
  }
  tool.print_table(std::move(table));
  const size_t kept = job.plan().kept.size();
  tool.print(fmt::format(
      "{} modules{}, {} weights; artifact {}, about {} on {} threads, peak memory about {}{}, {} "
      "free on "
      "disk{}\n",
      job.plan().modules.size(), kept > 0 ? fmt::format(" ({} stay as they are)", kept) : "",
      human_number(static_cast<double>(job.plan().weights)), human_bytes(job.artifact_bytes()),
      human_duration(json_number(json, "seconds", "the plan")), tool.context().threads.count(),
      human_bytes(memory.peak),
      memory.scratch > 0 ? " with " + human_bytes(memory.scratch) + " of activations on disk" : "",
      human_bytes(free_disk_space(place)), cached ? "; in the cache already" : ""));
  return 0;
}

// What was made, and what it did to the modules.
void log_result(const Json& manifest, bool cached, const Options& options, Tool& tool) {
  const Json& totals = manifest.at("totals");
  tool.note(fmt::format(
      "{}: {} in {:.3f} bits a weight{}", cached ? "answered from the cache" : "done",
      human_bytes(json_int(totals, "bytes", "totals")), json_number(totals, "bpw", "totals"),
      cached ? "" : ", " + human_duration(json_number(totals, "seconds", "totals", 0))));
  if (!cached || options.report) {
    for (const std::string& line : work_summary(manifest)) tool.note(line);
  }
  if (!options.report) return;
  std::istringstream table(module_table(module_reports(manifest)).text());
  for (std::string line; std::getline(table, line);) tool.note(line);
}

void print_result(const MadeArtifact& made, const Options& options, Tool& tool) {
  const std::string file = (made.folder / "qwb.json").string();
  const Json manifest = parse_json(read_text(file), file);
  const bool cached = made.kept && made.kept->cached;
  log_result(manifest, cached, options, tool);
  // As it was typed.
  const std::string folder = options.out.empty() ? made.folder.string() : options.out;
  if (!tool.json()) {
    tool.print(folder + "\n");
    return;
  }
  Json record = {{"schema", 1},
                 {"artifact", folder},
                 {"cached", cached},
                 {"key", made.kept ? made.kept->key.hex() : ""}};
  record["method"] = artifact_method(manifest);
  if (!options.format.empty()) record["format"] = options.format;
  for (const char* name : {"bits", "settings", "source", "calibration", "totals"}) {
    if (manifest.contains(name)) record[name] = manifest.at(name);
  }
  record["kept"] = json_has(manifest, "kept") ? manifest.at("kept") : Json::array();
  record["modules"] = module_reports(manifest);
  tool.print(record.dump() + "\n");
}

// Whether everything can be written that is asked for comes first, before any work.
QuantizeRequest request_of(const Options& options, Tool& tool) {
  const bool formatted = !options.format.empty();
  if (options.no_cache && options.out.empty() && !tool.dry_run())
    throw Error(ErrorKind::usage, "--no-cache needs --out");
  if (formatted && options.out.empty()) throw Error(ErrorKind::usage, "--format needs --out");
  if (formatted && options.no_cache)
    throw Error(ErrorKind::usage, "--format needs the cache, which keeps the artifact",
                "--no-cache");
  const ModelFormat* format = formatted ? &find_format(options.format) : nullptr;
  std::optional<Path> place;
  if (!options.out.empty()) {
    place = format == nullptr || format->extension.empty()
                ? tool.outputs().folder(options.out, "--out")
                : tool.outputs().file(options.out, "--out", format->begins);
  }
  if (!options.save_calib.empty() && !has_suffix(options.save_calib, kCalibrationExtension))
    throw Error(ErrorKind::usage, "the file's name must end in .qwbcalib",
                "--save-calib " + options.save_calib);
  QuantizeRequest request = options.wanted->request(tool);
  if (options.repair_rank > 0) {
    if (options.out.empty() || formatted)
      throw Error(ErrorKind::usage,
                  "--repair-rank needs --out, and an artifact as it is: the adapter is written "
                  "beside it");
    const Path out =
        Path(options.out).has_filename() ? Path(options.out) : Path(options.out).parent_path();
    request.repair_rank = options.repair_rank;
    request.repair = tool.outputs().folder(out.string() + "-repair", "--repair-rank");
  }
  request.place = place;
  request.format = format;
  request.replace = tool.outputs().force();
  return request;
}

int make_artifact(const Options& options, Tool& tool) {
  if (tool.dry_run()) keep_no_memos();
  const QuantizeRequest request = request_of(options, tool);
  const QuantizeJob job(request, tool.context());
  if (!job.plan().needs_calibration()) tool.reuse_large_buffers();  // one module after the other
  if (!options.save_calib.empty())
    job.save_calibration(options.save_calib, tool.outputs(), tool.dry_run(), tool.context());
  std::optional<Store> cache;
  if (!options.no_cache && (!tool.dry_run() || find_cache_root()))
    cache.emplace(Store::Options{.context = tool.context()});
  const Store* store = cache ? &*cache : nullptr;
  if (tool.dry_run()) return print_plan(job, store, options, tool);
  const BuildOptions build = {.max_memory = options.max_memory, .resume = !options.no_resume};
  print_result(job.run(store, build, tool.context()), options, tool);
  return 0;
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  using qwb::Options;
  return qwb::run_tool(
      argc, argv,
      {.name = "qwb-quantize",
       .summary = "Quantize a Hugging Face checkpoint into an artifact; keep it in the cache.",
       .examples = qwb::kExamples,
       .has_dry_run = true,
       .writes = true},
      [](CLI::App& app, qwb::Tool& tool) {
        auto options = std::make_shared<Options>();
        options->wanted = std::make_unique<qwb::QuantizeFlags>(app);
        app.add_option("--out", options->out, "put a copy of the artifact here")->type_name("DIR");
        CLI::Option* format =
            app.add_option("--format", options->format,
                           "write --out in this format instead; the artifact stays in the cache (" +
                               qwb::format_names() + ")")
                ->type_name("FORMAT");
        qwb::offer_list(format, qwb::format_names());
        app.add_flag("--no-cache", options->no_cache, "write to --out only, leave the cache alone");
        app.add_option("--repair-rank", options->repair_rank,
                       "Also make a repair adapter of this rank, of what quantizing loses on the "
                       "calibration inputs: a PEFT folder OUT-repair, which "
                       "qwb-complete and others take as --adapter")
            ->check(qwb::between(1, 65536))
            ->type_name("R");
        qwb::add_size(app, "--max-memory", options->max_memory,
                      "keep activations in files beyond this much memory, e.g. 6G [what is free]");
        app.add_flag("--no-resume", options->no_resume,
                     "forget what an interrupted run of the same work had finished");
        app.add_option("--save-calib", options->save_calib,
                       "write the calibration windows here (NAME.qwbcalib), for --calib")
            ->type_name("FILE")
            ->group("Calibration");
        app.add_flag("--report", options->report,
                     "tell every module's errors, damping and time on stderr (--json always does, "
                     "on stdout)");
        return [options, &tool] { return qwb::make_artifact(*options, tool); };
      });
}
