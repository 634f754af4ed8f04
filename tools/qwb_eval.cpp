// qwb-eval: what an artifact lost and what it costs. A thin main over lib/evaluate.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "lib/adapt/use.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/base/text.h"
#include "lib/evaluate/speed_table.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/evaluate_job.h"
#include "tools/common/adapter_flags.h"
#include "tools/common/cost_flags.h"
#include "tools/common/device_flags.h"
#include "tools/common/evaluation_table.h"
#include "tools/common/int8_flags.h"
#include "tools/common/model_flags.h"
#include "tools/common/quality_flags.h"
#include "tools/common/tool.h"

namespace qwb {
namespace {

struct Options {
  std::vector<std::string> folders;
  std::vector<std::string> records;
  QualityFlags quality;
  CostFlags costs;
  Int8Flags int8;
  std::string device = "cpu";
  std::vector<std::string> adapters;
};

constexpr const char* kExamples =
    "Examples:\n"
    "  qwb-eval                                  the newest artifact in the cache, on the demo "
    "text\n"
    "  qwb-eval ARTIFACT MODEL --ppl --speed     two rows of one table\n"
    "  qwb-eval ARTIFACT --protocol llama.cpp --text wiki.test.raw\n"
    "  qwb-eval ARTIFACT --kl --ppl              divergence from the unquantized model too\n"
    "  qwb-eval ARTIFACT --task hellaswag=hellaswag_val.jsonl,limit=400 --task "
    "lambada_openai=test.jsonl\n"
    "  qwb-eval ARTIFACT --max-kl 0.05 --max-ppl-ratio 1.02 || echo too much was lost\n"
    "  qwb-eval ARTIFACT --speed --pp 128,512 --tg 64 --depth 0,1024 --output md\n"
    "  qwb-eval ARTIFACT MODEL --speed --energy --json | jq .energy.joules_per_generated_token\n"
    "  qwb-eval INT8_ARTIFACT --int8 decompose   LLM.int8's own forward pass, threshold 6\n"
    "  qwb-eval --table results/*.json           one table of what --json wrote earlier\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 damaged, 5 unsupported, 6 quality gate "
    "failed, "
    "130 interrupted.";

void add_options(CLI::App& app, Options& o) {
  add_models(app, o.folders, "FOLDER",
             "Artifacts or models (default: the newest artifact in the cache, else the model of "
             "QWB_MODEL, else "
             "the demo)");
  add_quality_flags(app, o.quality);
  add_cost_flags(app, o.costs);
  add_adapter_flag(app, o.adapters);
  add_device_flag(app, o.device);
  add_int8_flags(app, o.int8);
  app.add_option("--table", o.records,
                 "Measure nothing: print the table of records that --json wrote")
      ->type_name("FILE...");
}

EvaluateRequest evaluate_request(const Options& o, Tool& tool) {
  EvaluateRequest request{.text = o.quality.text};
  request.options.int8_forward = chosen_int8_forward(o.int8);
  request.options.device = chosen_device(o.device, tool);
  request.options.attach = adapters_to_attach(parse_adapter_uses(o.adapters));
  apply_cost_flags(o.costs, request.options);
  request.options.quality = quality_options(o.quality, !o.costs.speed, tool);
  return request;
}

// Doubts and reasons that do not fit the table.
void log_doubts(const EvaluationRecord& r, Tool& tool) {
  if (const auto& p = r.quality.perplexity) {
    tool.note(fmt::format("{}: protocol {}, context {}, {} windows, {} tokens scored{}", r.artifact,
                          p->protocol, p->context, p->windows, p->tokens,
                          p->cached ? " (by an earlier run)" : ""));
  }
  if (const auto& d = r.quality.divergence) {
    const double bytes =
        static_cast<double>(d->base_weight_bytes + d->weight_bytes + d->state_bytes);
    tool.note(fmt::format("{}: divergence from {}: {} tokens, both models and their state in {}{}",
                          r.artifact, r.quality.baseline, d->tokens,
                          human_bytes(static_cast<int64_t>(bytes)),
                          d->cached ? " (by an earlier run)" : ""));
  }
  if (const std::string forward = int8_forward_text(r.int8_forward); !forward.empty())
    tool.note(fmt::format("{}: int8 forward: {}", r.artifact, forward));
}

// What stands on stdout without --json: tables, or speed alone as --output wants it.
void print_tables(const EvaluationTable& table, const Options& o, Tool& tool) {
  if (tool.json() || table.empty()) return;
  tool.print(o.costs.output.empty()
                 ? table.text(tool)
                 : speed_table(table.speed(), find_speed_format(o.costs.output)));
}

// --table measures nothing and judges nothing.
void refuse_beside_table(const Options& o) {
  const QualityFlags& q = o.quality;
  const bool measures = q.ppl || q.kl || !q.tasks.empty() || o.costs.speed || o.costs.energy;
  if (!o.folders.empty() || measures)
    throw Error(ErrorKind::usage, "--table measures nothing: records only, no model",
                o.folders.empty() ? "" : o.folders.front(), "measure in a run without --table");
  if (q.max_kl || q.max_ratio || q.max_bytes > 0)
    throw Error(ErrorKind::usage, "--table applies no gate", {},
                "give --max-kl, --max-ppl-ratio and --max-bytes to the run that measures");
}

// The records in files of --json, a line each.
int show_table(const Options& o, Tool& tool) {
  refuse_beside_table(o);
  EvaluationTable table(o.quality.protocol);
  for (const std::string& file : o.records) {
    std::istringstream text(read_text(file));
    int64_t number = 0;
    for (std::string line; std::getline(text, line);) {
      ++number;
      if (line.empty()) continue;
      table.add(parse_json(line, file + ": line " + std::to_string(number)), file);
      if (tool.json()) tool.print(line + "\n");
    }
  }
  print_tables(table, o, tool);
  return 0;
}

// Everything of one run that outlives a folder.
struct Run {
  EvaluationTable table;
  int code = 0;  // of the first error
  struct Measured {
    std::string folder, real;
    QualityRecord quality;
    int64_t bytes = 0;
  };
  std::vector<Measured> measured = {};  // for the gate, which needs to know who is whose original
};

void log_error(Run& run, const Error& error, Tool& tool) {
  tool.progress().end();
  tool.log_error(error.what());
  if (run.code == 0 || error.kind() == ErrorKind::interrupted) run.code = error.exit_code();
}

void evaluate_folder(const Options& o, const std::string& folder, EvaluateJob& job, Run& run,
                     Tool& tool) {
  const auto [model, record] = job.run(folder);
  log_doubts(record, tool);
  const Json json = record_json(record);
  log_costs(json, tool);
  if (tool.json()) tool.print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  run.table.add(json, folder);
  if (!o.quality.lm_eval_json.empty())
    write_lm_eval_json(o.quality.lm_eval_json, model, record.quality, tool.outputs().force(),
                       tool.context());
  for (const Error& problem : record.quality.problems) log_error(run, problem, tool);
  std::error_code ignored;
  run.measured.push_back({folder, std::filesystem::weakly_canonical(model, ignored).string(),
                          record.quality, record.bytes});
}

// Why the gate is closed.
std::vector<std::string> gate_of(const Options& o, const Run& run) {
  std::vector<std::string> gate;
  for (const Run::Measured& one : run.measured) {
    const bool is_original =
        !o.quality.baseline.empty() ||
        std::any_of(run.measured.begin(), run.measured.end(), [&](const auto& other) {
          return other.quality.baseline == one.real && !other.quality.is_baseline;
        });
    for (const std::string& reason : gate_failures(o.quality, one.quality, one.bytes, is_original))
      gate.push_back(one.folder + ": " + reason);
  }
  return gate;
}

bool is_lm_eval_result(const Path& file) {
  const std::string text = read_text(file, int64_t{1} << 28);
  return text.find("\"results\"") != std::string::npos &&
         text.find("\"n-shot\"") != std::string::npos;
}

// Every record is kept as soon as it is complete: a line of JSON at once, a row even if a later
// folder fails or Ctrl-C comes.
int evaluate(Options& o, Tool& tool) {
  check_cost_flags(o.costs, tool.json(), !o.records.empty());
  if (!o.records.empty()) return show_table(o, tool);
  tool.reuse_large_buffers();  // every block needs the activations of the one before
  std::vector<std::string> folders = o.folders;
  if (!o.adapters.empty() && !o.quality.lm_eval_json.empty())
    throw Error(ErrorKind::usage, "lm-eval's file has no place for adapters", {},
                "leave --lm-eval-json out, or merge them first (qwb-merge)");
  if (folders.size() > 1 && !o.quality.lm_eval_json.empty())
    throw Error(ErrorKind::usage, "lm-eval's file has the results of one model: name one folder");
  for (const std::string& folder : folders) tool.reads(folder);
  for (const std::string& adapter : o.adapters) tool.reads(parse_adapter_use(adapter).place);
  if (!o.quality.lm_eval_json.empty())
    o.quality.lm_eval_json =
        tool.outputs().file(o.quality.lm_eval_json, "--lm-eval-json", is_lm_eval_result).string();
  EvaluateJob job(evaluate_request(o, tool), tool.context());
  ChosenArtifact chosen;
  if (folders.empty()) {
    chosen = choose_artifact(tool.context());
    folders.push_back(chosen.folder.string());
  }
  if (folders.size() > 1) job.prepare(folders);
  Run run{EvaluationTable(o.quality.protocol)};
  for (const std::string& folder : folders) {
    try {
      tool.context().stop.check();
      evaluate_folder(o, folder, job, run, tool);
    } catch (const Error& error) {
      log_error(run, error, tool);
      if (error.kind() == ErrorKind::interrupted) break;
    }
  }
  print_tables(run.table, o, tool);
  const std::vector<std::string> gate = gate_of(o, run);
  for (const std::string& reason : gate) tool.log_error("quality gate: " + reason);
  return run.code == 0 && !gate.empty() ? static_cast<int>(ErrorKind::quality_gate) : run.code;
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {.name = "qwb-eval",
                              .summary =
                                  "Measures perplexity, divergence, tasks, speed, memory and "
                                  "energy of artifacts and models.",
                              .examples = qwb::kExamples,
                              .writes = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::Options>();
    qwb::add_options(app, *options);
    return [options, &tool] { return qwb::evaluate(*options, tool); };
  });
}
