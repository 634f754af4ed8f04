#include "tools/common/evaluation_table.h"

#include <fmt/format.h>

#include "lib/base/error.h"
#include "lib/evaluate/protocols.h"
#include "lib/evaluate/record.h"
#include "lib/evaluate/speed_table.h"
#include "lib/model/int8_forward.h"
#include "tools/common/cost_flags.h"

namespace qwb {
namespace {

// A number of a record, as `text` of it; "-" where the record has none.
template <typename Text>
std::string cell(const Json& record, const char* pointer, Text text) {
  const Json::json_pointer place(pointer);
  const bool there = record.contains(place) && record.at(place).is_number();
  return there ? text(record.at(place).get<double>()) : "-";
}

std::string with_error(const Json& record, const std::string& value, const std::string& error,
                       int digits) {
  const auto fixed = [digits](double number) { return fmt::format("{:.{}f}", number, digits); };
  const std::string deviation = cell(record, error.c_str(), fixed);
  return cell(record, value.c_str(), fixed) + (deviation == "-" ? "" : " ± " + deviation);
}

// An ESTIMATE of the record.
std::string estimate_cell(const Json& record, const std::string& pointer, int digits) {
  return with_error(record, pointer + "/value", pointer + "/stderr", digits);
}

std::string percent_cell(const Json& record, const std::string& pointer) {
  const auto percent = [](double share) { return fmt::format("{:.2f}", 100 * share); };
  const std::string deviation = cell(record, (pointer + "/stderr").c_str(), percent);
  const std::string value = cell(record, (pointer + "/value").c_str(), percent);
  return value == "-" ? value : value + (deviation == "-" ? "" : " ± " + deviation) + " %";
}

// The method, with the forward pass behind it where that adds its own loss.
std::string method_cell(const Json& record, const std::string& where) {
  std::string method = json_string(record, "method", where);
  if (!json_has(record, "int8_forward") || !record.at("int8_forward").contains("threshold"))
    return method;
  return method + " (" + int8_forward_text(record.at("int8_forward")) + ")";
}

std::string speed_cell(const Json& r, const std::string& part) {
  const auto rate = [](double value) { return human_number(value) + " t/s"; };
  const Json::json_pointer noisy(part + "/noisy");
  return cell(r, (part + "/median").c_str(), rate) +
         (r.contains(noisy) && r.at(noisy) == true ? " (noisy)" : "");
}

std::vector<std::string> artifact_row(const Json& r, const std::string& where) {
  const auto bytes = [](double value) { return human_bytes(static_cast<int64_t>(value)); };
  return {json_string(r, "artifact", where),
          method_cell(r, where),
          cell(r, "/bits", [](double value) { return fmt::format("{:.3g}", value); }),
          cell(r, "/bpw", [](double value) { return fmt::format("{:.2f}", value); }),
          cell(r, "/bytes", bytes),
          with_error(r, "/perplexity/value", "/perplexity/stderr", 3),
          with_error(r, "/perplexity/ratio", "/perplexity/ratio_stderr", 4),
          estimate_cell(r, "/divergence/mean_kl", 5),
          percent_cell(r, "/divergence/same_top"),
          cell(r, "/speed/load_seconds", human_duration),
          speed_cell(r, "/speed/prefill"),
          speed_cell(r, "/speed/decode"),
          cell(r, "/memory/peak_bytes", bytes),
          energy_cell(r)};
}

std::string flips_cell(const Json& task) {
  if (!json_has(task, "flips")) return "-";
  const auto count = [](double value) { return fmt::format("{:.0f}", value); };
  return "-" + cell(task, "/flips/to_wrong", count) + " +" + cell(task, "/flips/to_right", count);
}

std::vector<std::string> task_row(const Json& record, const Json& task, const std::string& where) {
  return {json_string(record, "artifact", where),
          json_string(task, "task", where),
          std::to_string(json_int(task, "items", where)),
          std::to_string(json_int(task, "shots", where)),
          percent_cell(task, "/acc"),
          percent_cell(task, "/acc_norm"),
          estimate_cell(task, "/perplexity", 3),
          flips_cell(task)};
}

// What the figures of a record belong to; empty without figures.
std::string kind_of(const Json& record, const std::string& where) {
  for (const char* part : {"perplexity", "divergence"}) {
    if (!json_has(record, part)) continue;
    const Json& p = record.at(part);
    return fmt::format("{}, stride {}, text {}", json_string(p, "protocol", where),
                       json_int(p, "stride", where, 0), json_string(p, "text_hash", where));
  }
  return {};
}

// What a protocol's value is of; the names of newer ones may be unknown here.
std::string column_of(const std::string& protocol) {
  for (const Protocol& known : protocols()) {
    if (known.name == protocol) return known.column;
  }
  return "perplexity";
}

}  // namespace

void EvaluationTable::add(const Json& record, const std::string& where) {
  const int64_t schema = json_int(record, "schema", where);
  if (schema != kRecordSchema)
    throw Error(
        ErrorKind::unsupported,
        fmt::format("a record of schema {}; this qwb-eval reads schema {}", schema, kRecordSchema),
        where, "measure again with this version");
  const std::string kind = kind_of(record, where);
  if (!kind_.empty() && !kind.empty() && kind != kind_) {
    throw Error(ErrorKind::usage,
                "perplexities of different protocols or texts do not share a column", where,
                "make one table of each");
  }
  if (kind_.empty() && !kind.empty()) {
    kind_ = kind;
    protocol_ = kind.substr(0, kind.find(','));
  }
  rows_.push_back(artifact_row(record, where));
  std::vector<Json> speed = speed_rows(record, where);
  shows_grid_ |= add_grid_rows(record, grid_);
  speed_.insert(speed_.end(), speed.begin(), speed.end());
  if (!json_has(record, "tasks")) return;
  for (const Json& task : record.at("tasks")) tasks_.push_back(task_row(record, task, where));
}

std::string EvaluationTable::text(Tool& tool) const {
  using Align = Table::Align;
  Table table({{"artifact", Align::left},
               {"method", Align::left, 1},
               {"bits", Align::right, 3},
               {"bpw", Align::right, 1},
               {"size", Align::right, 1},
               {column_of(protocol_) + " (" + protocol_ + ")", Align::right, 1},
               {"ratio", Align::right, 1},
               {"mean KL", Align::right, 1},
               {"same top", Align::right, 2},
               {"load", Align::right, 4},
               {"prefill", Align::right, 2},
               {"decode", Align::right, 1},
               {"peak memory", Align::right, 3},
               {"energy", Align::right, 2}});
  for (const auto& row : rows_) table.add_row(row);
  std::string both =
      tool.table_text(table) + (shows_grid_ ? "\n" + grid_text(grid_, tool.color_stdout()) : "");
  if (tasks_.empty()) return both;
  Table tasks({{"artifact", Align::left},
               {"task", Align::left},
               {"items", Align::right, 2},
               {"shots", Align::right, 3},
               {"acc", Align::right, 1},
               {"acc_norm", Align::right, 1},
               {"perplexity", Align::right, 1},
               {"flips", Align::right, 1}});
  for (const auto& row : tasks_) tasks.add_row(row);
  return both + "\n" + tool.table_text(tasks);
}

}  // namespace qwb
