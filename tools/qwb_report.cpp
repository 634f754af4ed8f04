// qwb-report: what several versions of a model cost and lost, side by side. A thin main over
// lib/report.
#include <memory>

#include "tools/common/command_line.h"
#include "tools/common/model_flags.h"
#include "tools/common/report_files.h"
#include "tools/common/tool.h"

namespace qwb {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  qwb-report results.json                           what qwb-eval --json wrote, as tables\n"
    "  qwb-report MODEL ARTIFACT ARTIFACT --out page.html   with what the cache keeps of them, as "
    "one page\n"
    "  qwb-report original=a.json NF4=b.json --out t.md --out t.csv --plots pictures\n"
    "  qwb-report MODEL ARTIFACT --module model.layers.0.mlp.up_proj --out page.html\n"
    "  qwb-report MODEL model-q4.gguf --module lm_head --baseline MODEL --plots pictures\n"
    "  qwb-report results/*.json --json | jq '.judgements[]'\n"
    "Exit codes: 0 done, 1 failed (a damaged result, say; the others are reported all the same), 2 "
    "usage, 3 "
    "not "
    "found, 5 unsupported (another schema; --plots without gnuplot), 130 interrupted.";

void add_options(CLI::App& app, ReportOptions& o) {
  add_models(app, o.inputs, "INPUT",
             "Files of results (qwb-eval --json), or folders of models and artifacts with the "
             "results that the "
             "cache keeps of them; NAME=INPUT gives a version its name");
  app.add_option("-o,--out", o.out,
                 "Write this file too, by its ending .html, .md, .csv, .json or .txt (repeatable)")
      ->type_name("FILE");
  app.add_option("--plots", o.plots,
                 "Write every plot into this folder, as SVG and PNG (needs gnuplot)")
      ->type_name("FOLDER");
  app.add_option("--output", o.format, "What to print: table, md, csv, json or html")
      ->check(one_of({"table", "md", "csv", "json", "html"}))
      ->type_name("FORMAT")
      ->capture_default_str();
  app.add_option("--module", o.modules,
                 "Show how this module's weights are distributed before and after (repeatable)")
      ->type_name("NAME");
  app.add_option("--baseline", o.baseline,
                 "The original for --module (default: what the artifact names, else the original "
                 "among the inputs)")
      ->type_name("FOLDER");
  app.add_option("--title", o.title, "Title of the report")
      ->type_name("TEXT")
      ->capture_default_str();
  app.add_flag("!--no-cached", o.cached,
               "Do not look for the results that the cache keeps of folders");
}

int make_report(ReportOptions& options, Tool& tool) {
  check_report_options(options, tool);
  const ReportInputs inputs = read_report_inputs(
      options, tool.context(), [&](const Error& error) { tool.log_error(error.what()); });
  if (!inputs.report.versions.empty()) write_report(options, inputs, tool);
  return inputs.code;
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {
      .name = "qwb-report",
      .summary = "Puts results of qwb-eval side by side: tables, plots, what speaks for each.",
      .examples = qwb::kExamples,
      .writes = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::ReportOptions>();
    options->title = "Quantizations compared";
    options->format = "table";
    qwb::add_options(app, *options);
    return [options, &tool] { return qwb::make_report(*options, tool); };
  });
}
