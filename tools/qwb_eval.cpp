// qwb-eval: what an artifact lost and what it costs. A thin main over lib/evaluate.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/interrupt.h"
#include "lib/base/json.h"
#include "lib/evaluate/session.h"
#include "tools/common/choose.h"
#include "tools/common/int8_flags.h"
#include "tools/common/pull.h"
#include "tools/common/text.h"
#include "tools/common/tool.h"

namespace qwb {
namespace {

struct Options {
  std::vector<std::string> folders;
  std::vector<std::string> records;
  bool ppl = false;
  bool speed = false;
  bool energy = false;
  bool no_baseline = false;
  std::string protocol = "windows";
  std::string text;
  int64_t context = 0;
  int64_t windows = 0;
  int64_t repetitions = 5;
  std::optional<double> watts;
  Int8Flags int8;
};

constexpr const char* kExamples =
    "Examples:\n"
    "  qwb-eval                                  the newest artifact in the cache, on the demo text\n"
    "  qwb-eval ARTIFACT MODEL --ppl --speed     two rows of one table\n"
    "  qwb-eval ARTIFACT --protocol llama.cpp --text wiki.test.raw\n"
    "  qwb-eval ARTIFACT --speed --energy --json | jq .energy.joules\n"
    "  qwb-eval INT8_ARTIFACT --int8 decompose   LLM.int8's own forward pass, threshold 6\n"
    "  qwb-eval --table results/*.json           one table of what --json wrote earlier\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 damaged, 5 unsupported, 130 interrupted.";

std::string protocol_help() {
  std::string text = "How perplexity is measured:";
  for (const Protocol& protocol : protocols()) text += "\n" + protocol.name + " (" + protocol.summary + ")";
  return text;
}

void add_options(CLI::App& app, Options& o) {
  app.add_option("FOLDER", o.folders,
                 "Artifacts or models (default: the newest artifact in the cache, else the model of "
                 "QWB_MODEL, else the demo)")
      ->type_name("");
  app.add_flag("--ppl", o.ppl, "Measure perplexity (the default if nothing is asked for)");
  std::vector<std::string> names;
  for (const Protocol& protocol : protocols()) names.push_back(protocol.name);
  app.add_option("--protocol", o.protocol, protocol_help())
      ->check(CLI::IsMember(names))
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--text", o.text, "Text file to measure on (default: the demo's eval.txt)")
      ->type_name("FILE");
  app.add_option("--context", o.context,
                 "Tokens of a window (default: the model's limit, at most 2048; llama.cpp: 512)")
      ->check(CLI::Range(int64_t{4}, int64_t{1} << 30))
      ->type_name("N");
  app.add_option("--windows", o.windows,
                 "Use only the first N windows (the figure then belongs to them alone)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->type_name("N");
  app.add_flag("--speed", o.speed, "Measure load time, prefill and decode speed");
  app.add_option("--repetitions", o.repetitions, "Repetitions of the speed measurement")
      ->check(CLI::Range(1, 100000))
      ->type_name("N")
      ->capture_default_str();
  app.add_flag("--energy", o.energy,
               "Measure the energy of the work asked for (RAPL, NVML, or an estimate that says so)");
  app.add_option("--watts", o.watts,
                 "Power of this machine while it works, for the estimate where nothing can be measured")
      ->check(CLI::PositiveNumber)
      ->type_name("W");
  add_int8_flags(app, o.int8);
  app.add_flag("--no-baseline", o.no_baseline, "Do not measure the unquantized model for the ratio");
  app.add_option("--table", o.records, "Measure nothing: print the table of records that --json wrote")
      ->type_name("FILE...");
}

EvaluationOptions evaluation_options(const Options& o, Tool& tool) {
  EvaluationOptions e;
  e.perplexity = o.ppl || !o.speed;
  e.speed = o.speed;
  e.energy = o.energy;
  e.baseline = !o.no_baseline;
  e.protocol = {o.protocol, o.context, o.windows};
  e.repetitions = o.repetitions;
  e.int8_forward = chosen_int8_forward(o.int8);
  e.energy_options.declared_watts = o.watts;
  if (e.perplexity) {
    const Path file = o.text.empty() ? demo_path("text/eval.txt") : Path(o.text);
    if (o.text.empty()) tool.note("text " + file.string() + " (the demo; --text chooses another)");
    e.text = read_text(file);
    e.text_name = file.string();
  }
  return e;
}

// A number of a record, as `text` of it; "-" where the record has none.
template <typename Text>
std::string cell(const Json& record, const char* pointer, Text text) {
  const Json::json_pointer place(pointer);
  const bool there = record.contains(place) && record.at(place).is_number();
  return there ? text(record.at(place).get<double>()) : "-";
}

std::string with_error(const Json& record, const char* value, const char* error, int digits) {
  const auto fixed = [digits](double number) { return fmt::format("{:.{}f}", number, digits); };
  const std::string deviation = cell(record, error, fixed);
  return cell(record, value, fixed) + (deviation == "-" ? "" : " ± " + deviation);
}

std::string energy_cell(const Json& record) {
  if (!json_has(record, "energy")) return "-";
  const std::string joules = cell(record, "/energy/joules", human_number);
  return joules == "-" ? "n/a"
                       : joules + " J (" + json_string(record.at("energy"), "source", "energy", "?") + ")";
}

// The method, with the forward pass behind it where that adds its own loss.
std::string method_cell(const Json& record, const std::string& where) {
  const std::string method = json_string(record, "method", where);
  if (!json_has(record, "int8_forward") || !record.at("int8_forward").contains("threshold")) return method;
  return method + " (" + int8_forward_text(record.at("int8_forward")) + ")";
}

// One row from a record of schema 1 (lib/evaluate/record.h), fresh or read from a file.
std::vector<std::string> table_row(const Json& r, const std::string& where) {
  const auto bytes = [](double value) { return human_bytes(static_cast<int64_t>(value)); };
  const auto rate = [](double value) { return human_number(value) + " t/s"; };
  return {json_string(r, "artifact", where),
          method_cell(r, where),
          cell(r, "/bits", [](double value) { return fmt::format("{:.3g}", value); }),
          cell(r, "/bpw", [](double value) { return fmt::format("{:.2f}", value); }),
          cell(r, "/bytes", bytes),
          with_error(r, "/perplexity/value", "/perplexity/stderr", 3),
          with_error(r, "/perplexity/ratio", "/perplexity/ratio_stderr", 4),
          cell(r, "/speed/load_seconds", human_duration),
          cell(r, "/speed/prefill/median", rate),
          cell(r, "/speed/decode/median", rate),
          cell(r, "/memory/peak_bytes", bytes),
          energy_cell(r)};
}

// The perplexity column tells its protocol: two protocols never share one.
Table make_table(const std::string& protocol) {
  using Align = Table::Align;
  return Table({{"artifact", Align::left},
                {"method", Align::left},
                {"bits", Align::right},
                {"bpw", Align::right},
                {"size", Align::right},
                {"perplexity (" + protocol + ")", Align::right},
                {"ratio", Align::right},
                {"load", Align::right},
                {"prefill", Align::right},
                {"decode", Align::right},
                {"peak memory", Align::right},
                {"energy", Align::right}});
}

// Doubts and reasons that do not fit the table.
void narrate(const EvaluationRecord& r, Tool& tool) {
  if (r.perplexity) {
    tool.note(fmt::format("{}: protocol {}, context {}, {} windows, {} tokens scored", r.artifact,
                          r.perplexity->protocol, r.perplexity->context, r.perplexity->windows,
                          r.perplexity->tokens));
  }
  if (const std::string forward = int8_forward_text(r.int8_forward); !forward.empty())
    tool.note(fmt::format("{}: int8 forward: {}", r.artifact, forward));
  std::vector<std::string> told;
  for (const EnergyWindow& window : r.energy) {
    if (window.report.total) {
      const EnergyFigure& f = *window.report.total;
      const double per_token = f.joules / static_cast<double>(window.tokens);
      tool.note(fmt::format("{}: {}: {} J/token, {} W, {}{}", r.artifact, window.work,
                            human_number(per_token), human_number(f.watts), f.quality,
                            f.remark.empty() ? "" : " (" + f.remark + ")"));
    }
    for (const std::string& reason : window.report.reasons) {
      if (std::find(told.begin(), told.end(), reason) != told.end()) continue;
      told.push_back(reason);
      tool.note("energy: " + reason);
    }
  }
}

// Where two records disagree, their perplexities do not belong in one column.
std::string perplexity_kind(const Json& record, const std::string& where) {
  if (!json_has(record, "perplexity")) return {};
  const Json& p = record.at("perplexity");
  return json_string(p, "protocol", where) + ", text " + json_string(p, "text_hash", where);
}

// The records in files of --json, a line each.
int show_table(const Options& o, Tool& tool) {
  std::vector<std::vector<std::string>> rows;
  std::string kind;
  for (const std::string& file : o.records) {
    std::istringstream text(read_text(file));
    for (std::string line; std::getline(text, line);) {
      if (line.empty()) continue;
      const Json record = parse_json(line, file);
      if (json_int(record, "schema", file) != 1)
        throw Error(ErrorKind::unsupported, "a record of another schema", file);
      const std::string its_kind = perplexity_kind(record, file);
      if (!kind.empty() && !its_kind.empty() && its_kind != kind) {
        throw Error(ErrorKind::usage, "perplexities of different protocols or texts do not share a column",
                    file, "make one table of each");
      }
      if (kind.empty()) kind = its_kind;
      rows.push_back(table_row(record, file));
      if (tool.json()) tool.print(line + "\n");
    }
  }
  Table table = make_table(kind.empty() ? o.protocol : kind.substr(0, kind.find(',')));
  for (auto& row : rows) table.add_row(std::move(row));
  if (!tool.json() && !table.empty()) tool.print(table.text(tool.color_stdout()));
  return 0;
}

// Every record is kept as soon as it is complete: a line of JSON at once, a row even if a later folder fails
// or Ctrl-C comes.
int evaluate(const Options& o, Tool& tool) {
  if (!o.records.empty()) return show_table(o, tool);
  std::vector<std::string> folders = o.folders;
  Evaluation evaluation(evaluation_options(o, tool), tool.progress());
  ChosenArtifact chosen;
  if (folders.empty()) {
    chosen = choose_artifact(tool.progress());
    folders.push_back(chosen.folder.string());
  }
  Table table = make_table(o.protocol);
  int code = 0;
  for (const std::string& folder : folders) {
    try {
      check_interrupt();
      const Path model = model_folder(folder, tool.progress());
      require_model_folder(model);
      const EvaluationRecord record = evaluation.run(model);
      narrate(record, tool);
      const Json json = record_json(record);
      if (tool.json()) tool.print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
      table.add_row(table_row(json, folder));
    } catch (const Error& error) {
      tool.progress().end();
      tool.complain(error.what());
      if (code == 0 || error.kind() == ErrorKind::interrupted) code = error.exit_code();
      if (error.kind() == ErrorKind::interrupted) break;
    }
  }
  if (!tool.json() && !table.empty()) tool.print(table.text(tool.color_stdout()));
  return code;
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {
      .name = "qwb-eval",
      .summary = "Measures perplexity, speed, memory and energy of artifacts and models.",
      .examples = qwb::kExamples};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::Options>();
    qwb::add_options(app, *options);
    return [options, &tool] { return qwb::evaluate(*options, tool); };
  });
}
