// qwb-quantize: a checkpoint becomes an artifact, once.
#include <fmt/format.h>

#include <fstream>
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
#include "lib/jobs/requantize.h"
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
  bool no_resume = false, no_cache = false, report = false;
  std::optional<Path> place;  // of --out, as the outputs allow it
};

// Where the activations go that do not fit: the disk that the artifact goes to anyway; /tmp is
// memory on many machines.
Path scratch_folder(const std::optional<Store>& store, const Options& options) {
  return store ? store->root() : options.place ? options.place->parent_path() : Path(".");
}

MemoryPlan memory_plan(const QuantizeJob& job, const std::optional<Store>& store,
                       const Options& options) {
  return job.memory_plan(options.max_memory, scratch_folder(store, options));
}

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

int print_plan(const QuantizeJob& job, const std::optional<Store>& store, const Options& options,
               Tool& tool) {
  const Path place = options.place ? *options.place : store ? store->root() : Path(".");
  const bool cached = store && !store->all_hex().empty() && store->holds(job.key(tool.context()));
  const MemoryPlan memory = memory_plan(job, store, options);
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

// `folder` is what was asked for; `artifact` holds its qwb.json.
void answer(const Path& artifact, const Path& folder, bool cached, const std::string& key,
            const Options& options, Tool& tool) {
  const std::string file = (artifact / "qwb.json").string();
  const Json manifest = parse_json(read_text(file), file);
  log_result(manifest, cached, options, tool);
  if (!tool.json()) {
    tool.print(folder.string() + "\n");
    return;
  }
  Json record = {{"schema", 1}, {"artifact", folder.string()}, {"cached", cached}, {"key", key}};
  record["method"] = artifact_method(manifest);
  if (!options.format.empty()) record["format"] = options.format;
  for (const char* name : {"bits", "settings", "source", "calibration", "totals"}) {
    if (manifest.contains(name)) record[name] = manifest.at(name);
  }
  record["kept"] = json_has(manifest, "kept") ? manifest.at("kept") : Json::array();
  record["modules"] = module_reports(manifest);
  tool.print(record.dump() + "\n");
}

bool is_calibration_file(const Path& file) {
  std::string text(32, ' ');
  std::ifstream in(file, std::ios::binary);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  return text.find("\"qwbcalib\"") != std::string::npos;
}

// Before any work: whether everything can be written that is asked for.
void check_places(Options& options, Tool& tool) {
  if (options.no_cache && options.out.empty() && !tool.dry_run())
    throw Error(ErrorKind::usage, "--no-cache needs --out");
  if (!options.out.empty()) {
    const ModelFormat* format = options.format.empty() ? nullptr : &find_format(options.format);
    options.place = format == nullptr || format->extension.empty()
                        ? tool.outputs().folder(options.out, "--out")
                        : tool.outputs().file(options.out, "--out", format->begins);
  }
  if (options.save_calib.empty()) return;
  if (!has_suffix(options.save_calib, kCalibrationExtension))
    throw Error(ErrorKind::usage, "the file's name must end in .qwbcalib",
                "--save-calib " + options.save_calib);
}

// A set that is there already with the same tokens is as good as written.
void save_calibration(const QuantizeJob& job, const Options& options, Tool& tool) {
  if (options.save_calib.empty()) return;
  if (job.calibration() == nullptr)
    throw Error(ErrorKind::usage, "there is nothing to save: the plan needs no calibration",
                "--save-calib");
  const std::string text = calibration_set_text(*job.calibration());
  std::error_code error;
  if (std::filesystem::is_regular_file(options.save_calib, error) &&
      read_text(options.save_calib) == text)
    return;
  if (!tool.outputs().force() && is_calibration_file(options.save_calib)) {
    throw Error(ErrorKind::usage, "the file holds another calibration set", options.save_calib,
                "choose another name or add --force");
  }
  const Path file = tool.outputs().file(options.save_calib, "--save-calib", is_calibration_file);
  if (tool.dry_run()) return;
  write_file_atomically(file, as_bytes(text), tool.outputs().force());
  tool.note("calibration set saved: " + options.save_calib);
}

void copy_artifact(const Path& from, const Path& to, bool force, const StopToken& stop) {
  PendingFolder pending(to, stop);
  std::filesystem::copy(from, pending.path(), std::filesystem::copy_options::recursive);
  if (!pending.commit(force))
    throw Error(ErrorKind::usage, "the folder exists", to.string(),
                "choose another --out or add --force");
}

// Throws if --format asks for what cannot be.
void check_format(const Options& options, const QuantizeJob& job) {
  if (options.format.empty()) return;
  if (options.out.empty()) throw Error(ErrorKind::usage, "--format needs --out");
  if (options.no_cache)
    throw Error(ErrorKind::usage, "--format needs the cache, which keeps the artifact",
                "--no-cache");
  check_plan_fits(job.plan(), job.source(), find_format(options.format));
}

void convert_artifact(const Path& from, const Options& options, Tool& tool) {
  const Context quiet = tool.context().silent();
  ConvertJob job(open_model(from, quiet),
                 {.format = options.format, .replace = tool.outputs().force()}, tool.context());
  job.write(*options.place);
  job.log(true, *tool.context().progress);
}

// Into --out alone, without the cache.
int quantize_to_folder(const QuantizeJob& job, const Options& options, Tool& tool) {
  WriteOptions write;
  write.replace = tool.outputs().force();
  write.memory = memory_plan(job, std::nullopt, options);
  job.write(*options.place, tool.context(), write);
  answer(*options.place, options.out, false, "", options, tool);
  return 0;
}

int make_artifact(Options& options, Tool& tool) {
  if (tool.dry_run()) keep_no_memos();
  check_places(options, tool);
  const QuantizeJob job(options.wanted->request(tool), tool.context());
  check_format(options, job);
  if (!job.plan().needs_calibration()) tool.reuse_large_buffers();  // one module after the other
  save_calibration(job, options, tool);
  std::optional<Store> store;
  if (!options.no_cache && (!tool.dry_run() || find_cache_root()))
    store.emplace(Store::Options{.context = tool.context()});
  if (tool.dry_run()) return print_plan(job, store, options, tool);
  if (!store) return quantize_to_folder(job, options, tool);
  const CachedArtifact made = job.build(
      *store, {.max_memory = options.max_memory, .resume = !options.no_resume}, tool.context());
  const bool other_format = !options.format.empty();
  if (other_format) {
    convert_artifact(made.folder, options, tool);
  } else if (options.place) {
    copy_artifact(made.folder, *options.place, tool.outputs().force(), tool.context().stop);
  }
  const Path folder = options.place ? Path(options.out) : made.folder;
  answer(other_format ? made.folder : folder, folder, made.cached, made.key.hex(), options, tool);
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
