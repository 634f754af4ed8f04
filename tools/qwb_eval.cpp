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
#include "lib/evaluate/speed_table.h"
#include "tools/common/choose.h"
#include "tools/common/cost_flags.h"
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
  CostFlags costs;
  bool no_baseline = false;
  std::string protocol = "windows";
  std::string text;
  int64_t context = 0;
  int64_t windows = 0;
  Int8Flags int8;
};

constexpr const char* kExamples =
    "Examples:\n"
    "  qwb-eval                                  the newest artifact in the cache, on the demo text\n"
    "  qwb-eval ARTIFACT MODEL --ppl --speed     two rows of one table\n"
    "  qwb-eval ARTIFACT --protocol llama.cpp --text wiki.test.raw\n"
    "  qwb-eval ARTIFACT --speed --pp 128,512 --tg 64 --depth 0,1024 --output md\n"
    "  qwb-eval ARTIFACT MODEL --speed --energy --json | jq .energy.joules_per_generated_token\n"
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
  add_cost_flags(app, o.costs);
  add_int8_flags(app, o.int8);
  app.add_flag("--no-baseline", o.no_baseline, "Do not measure the unquantized model for the ratio");
  app.add_option("--table", o.records, "Measure nothing: print the table of records that --json wrote")
      ->type_name("FILE...");
}

EvaluationOptions evaluation_options(const Options& o, Tool& tool) {
  EvaluationOptions e;
  check_cost_flags(o.costs, tool.json(), false);
  apply_cost_flags(o.costs, e);
  e.perplexity = o.ppl || !o.costs.speed;
  e.baseline = !o.no_baseline;
  e.protocol = {o.protocol, o.context, o.windows};
  e.int8_forward = chosen_int8_forward(o.int8);
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
          memory_cell(r),
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
}

// Where two records disagree, their perplexities do not belong in one column.
std::string perplexity_kind(const Json& record, const std::string& where) {
  if (!json_has(record, "perplexity")) return {};
  const Json& p = record.at("perplexity");
  return json_string(p, "protocol", where) + ", text " + json_string(p, "text_hash", where);
}

// What stands on stdout without --json.
void print_tables(const Table& table, const std::vector<Json>& records, const Options& o, Tool& tool) {
  if (tool.json()) return;
  if (o.costs.output.empty()) {
    if (!table.empty()) tool.print(table.text(tool.color_stdout()) + grid_text(records, tool.color_stdout()));
    return;
  }
  std::vector<Json> rows;
  for (const Json& record : records) {
    for (Json& row : speed_rows(record, "the record")) rows.push_back(std::move(row));
  }
  if (!rows.empty()) tool.print(speed_table(rows, find_speed_format(o.costs.output)));
}

// The records in files of --json, a line each.
int show_table(const Options& o, Tool& tool) {
  check_cost_flags(o.costs, tool.json(), true);
  std::vector<std::vector<std::string>> rows;
  std::vector<Json> records;
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
      records.push_back(record);
      if (tool.json()) tool.print(line + "\n");
    }
  }
  Table table = make_table(kind.empty() ? o.protocol : kind.substr(0, kind.find(',')));
  for (auto& row : rows) table.add_row(std::move(row));
  print_tables(table, records, o, tool);
  return 0;
}

// Energy is measured of all models in turns. A folder that is none is told when its turn comes.
void prepare(Evaluation& evaluation, const std::vector<std::string>& folders, Tool& tool) {
  std::vector<Path> models;
  for (const std::string& folder : folders) {
    try {
      models.push_back(model_folder(folder, tool.progress()));
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::interrupted) throw;
    }
  }
  evaluation.prepare(models);
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
  prepare(evaluation, folders, tool);
  Table table = make_table(o.protocol);
  std::vector<Json> records;
  int code = 0;
  for (const std::string& folder : folders) {
    try {
      check_interrupt();
      const Path model = model_folder(folder, tool.progress());
      require_model_folder(model);
      const EvaluationRecord record = evaluation.run(model);
      narrate(record, tool);
      const Json json = record_json(record);
      narrate_costs(json, tool);
      records.push_back(json);
      if (tool.json()) tool.print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
      table.add_row(table_row(json, folder));
    } catch (const Error& error) {
      tool.progress().end();
      tool.complain(error.what());
      if (code == 0 || error.kind() == ErrorKind::interrupted) code = error.exit_code();
      if (error.kind() == ErrorKind::interrupted) break;
    }
  }
  print_tables(table, records, o, tool);
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
