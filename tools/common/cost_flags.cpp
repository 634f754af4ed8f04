#include "tools/common/cost_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/evaluate/speed_table.h"
#include "tools/common/command_line.h"
#include "tools/common/number_checks.h"
#include "tools/common/version.h"

namespace qwb {
namespace {

constexpr double kMostTokens = 0x1p30;

void add_sizes(CLI::App& app, const std::string& name, std::vector<int64_t>& sizes,
               const std::string& help) {
  app.add_option(name, sizes, help)
      ->delimiter(',')
      ->check(between(0, kMostTokens))
      ->type_name("N,...");
}

void add_speed_flags(CLI::App& app, CostFlags& flags) {
  app.add_flag("--speed", flags.speed, "Measure load time, prefill and decode speed");
  add_sizes(app, "--pp", flags.prompts,
            "Tokens of the prompts to prefill; 0: none (default: 512, or the model's limit)");
  add_sizes(app, "--tg", flags.generates,
            "Tokens to generate one by one; 0: none (default: 128, or the model's limit)");
  add_sizes(app, "--depth", flags.depths,
            "Tokens that are in the KV cache before each of these (default: 0); every --pp and "
            "--tg is measured "
            "at every depth");
  app.add_option("--repetitions", flags.repetitions,
                 "Repetitions of each speed measurement, after a warm-up")
      ->check(between(1, 100000))
      ->type_name("N")
      ->capture_default_str();
  app.add_option(
         "--output", flags.output,
         "Print speed alone as llama-bench does: md, csv, json or jsonl, with its names of fields")
      ->check(one_of({"md", "csv", "json", "jsonl"}))
      ->type_name("FORMAT");
}

void add_energy_flags(CLI::App& app, CostFlags& flags) {
  app.add_flag("--energy", flags.energy,
               "Measure the energy of the work asked for: RAPL (powercap or perf), NVML, --meter, "
               "or an estimate "
               "that says so; several models in turns");
  add_meter_flags(app, flags.meter);
  app.add_option("--idle", flags.idle,
                 "Seconds of idle power measured before and after, the model loaded; 0: none, and "
                 "no net joules")
      ->check(between(0, 86400))
      ->type_name("SECONDS")
      ->capture_default_str();
  app.add_option("--energy-seconds", flags.energy_seconds,
                 "Repeat each work for at least so long, where energy can be measured")
      ->check(between(0, 86400))
      ->type_name("SECONDS")
      ->capture_default_str();
  app.add_option("--cooldown", flags.cooldown,
                 "Let the machine rest before another model's work, until its power is back at "
                 "idle and for so long "
                 "at most")
      ->check(between(0, 86400))
      ->type_name("SECONDS")
      ->capture_default_str();
}

}  // namespace

void add_cost_flags(CLI::App& app, CostFlags& flags) {
  add_speed_flags(app, flags);
  add_energy_flags(app, flags);
}

void check_cost_flags(const CostFlags& flags, bool json, bool reads_records) {
  const auto usage = [](const char* what) { throw Error(ErrorKind::usage, what); };
  const bool grid = !flags.prompts.empty() || !flags.generates.empty() || !flags.depths.empty();
  if (grid && !flags.speed) usage("--pp, --tg and --depth belong to --speed");
  if (!flags.output.empty() && json) usage("--output and --json both say what to print; use one");
  if (!flags.output.empty() && !flags.speed && !reads_records)
    usage("--output belongs to --speed or --table");
  check_meter_flags(flags.meter, flags.energy);
}

void apply_cost_flags(const CostFlags& flags, EvaluationOptions& options) {
  options.speed = flags.speed;
  options.speed_options.grid = {flags.prompts, flags.generates, flags.depths};
  options.speed_options.repetitions = flags.repetitions;
  options.energy = flags.energy;
  apply_meter_flags(flags.meter, options.energy_options);
  options.energy_plan.idle_seconds = flags.idle;
  options.energy_plan.seconds = flags.energy_seconds;
  options.energy_plan.cooldown_seconds = flags.cooldown;
  options.version = version_line("qwb-eval");
}

namespace {

std::optional<double> number_at(const Json& record, const char* pointer) {
  const Json::json_pointer place(pointer);
  if (!record.contains(place) || !record.at(place).is_number()) return std::nullopt;
  return record.at(place).get<double>();
}
std::string bytes_at(const Json& record, const char* pointer) {
  const auto value = number_at(record, pointer);
  return value ? human_bytes(static_cast<int64_t>(*value)) : "-";
}
std::string text_at(const Json& object, const char* key) {
  return json_has(object, key) && object.at(key).is_string() ? object.at(key).get<std::string>()
                                                             : "";
}

}  // namespace

std::string energy_cell(const Json& record) {
  if (!json_has(record, "energy")) return "-";
  for (const auto& [part, joules_of] : {std::pair{"/energy/joules_per_generated_token", "/gross"},
                                        {"/energy/joules_per_prompt_token", "/gross"},
                                        {"/energy/windows/0", "/joules_per_token"}}) {
    const auto joules = number_at(record, (std::string(part) + joules_of).c_str());
    if (!joules) continue;
    const Json::json_pointer noisy(std::string(part) + "/noisy");
    const bool doubtful = record.contains(noisy) && record.at(noisy) == true;
    return human_number(*joules) + " J/token (" + text_at(record.at("energy"), "method") +
           (doubtful ? ", noisy)" : ")");
  }
  return "n/a";
}

namespace {

void log_memory(const Json& record, const std::string& name, Tool& tool) {
  if (!json_has(record, "memory") || !json_has(record.at("memory"), "ledger")) return;
  const auto at = [&](const std::string& kind) {
    return bytes_at(record, ("/memory/ledger/" + kind + "/peak").c_str());
  };
  std::string text = fmt::format(
      "{}: memory at most: weights {} mapped + {} copied, KV cache {}, activations {}, scratch {}; "
      "the "
      "system "
      "counts {} anonymous, {} file",
      name, at("mapped_weights"), at("weights"), at("kv_cache"), at("activations"), at("scratch"),
      bytes_at(record, "/memory/anonymous_bytes"), bytes_at(record, "/memory/file_bytes"));
  if (number_at(record, "/memory/quantize_peak_bytes"))
    text += "; quantizing took " + bytes_at(record, "/memory/quantize_peak_bytes");
  tool.note(text);
}

std::string work_text(const Json& window) {
  const auto joules = number_at(window, "/joules_per_token"),
             net = number_at(window, "/net_joules_per_token");
  if (!joules) return "n/a";
  std::string text = human_number(*joules) + " J/token";
  if (net) text += fmt::format(" ({} net of idle)", human_number(*net));
  if (const auto deviation = number_at(window, "/rounds/stddev"))
    text += fmt::format(" ± {:.1f} %", 100 * *deviation / std::max(*joules, 1e-30));
  if (const auto watts = number_at(window, "/watts")) text += ", " + human_number(*watts) + " W";
  text += ", " + text_at(window, "quality") + " by " + text_at(window, "method");
  const std::string remark = text_at(window, "remark");
  return remark.empty() ? text : text + " (" + remark + ")";
}

}  // namespace

void log_costs(const Json& record, Tool& tool) {
  const std::string name = text_at(record, "artifact");
  log_memory(record, name, tool);
  if (!json_has(record, "energy")) return;
  const Json& energy = record.at("energy");
  if (json_has(energy, "windows")) {
    for (const Json& window : energy.at("windows")) {
      tool.note(fmt::format("{}: {}: {}", name, text_at(window, "work"), work_text(window)));
      for (const Json& part : window.at("parts")) {
        if (const auto ratio = number_at(part, "/power_ratio"))
          tool.note(fmt::format("{}: {}: {} J by {}'s counter, integrated power gives {:.3f} of it",
                                name, text_at(window, "work"),
                                human_number(part.at("joules").get<double>()),
                                text_at(part, "device"), *ratio));
      }
    }
  }
  if (const auto idle = number_at(energy, "/idle/watts"))
    tool.note(fmt::format("{}: idle: {} W", name, human_number(*idle)));
  if (!json_has(energy, "reasons")) return;
  for (const Json& reason : energy.at("reasons"))
    tool.note_once("energy: " + reason.get<std::string>());
}

bool add_grid_rows(const Json& record, std::vector<std::vector<std::string>>& rows) {
  if (!json_has(record, "speed") || !json_has(record.at("speed"), "tests")) return false;
  for (const Json& test : record.at("speed").at("tests")) {
    const auto rate = [&](const char* key) {
      const auto value = number_at(test, key);
      return value ? human_number(*value) + " t/s" : "-";
    };
    const auto deviation = number_at(test, "/stddev");
    rows.push_back({text_at(record, "artifact"), text_at(test, "name"), rate("/median"),
                    rate("/mean") + (deviation ? " ± " + human_number(*deviation) : ""),
                    rate("/min"), rate("/max")});
  }
  return record.at("speed").at("tests").size() > 2;
}

std::string grid_text(const std::vector<std::vector<std::string>>& rows, bool color) {
  using Align = Table::Align;
  Table table({{"artifact", Align::left},
               {"test", Align::right},
               {"median", Align::right},
               {"mean", Align::right},
               {"min", Align::right},
               {"max", Align::right}});
  for (const auto& row : rows) table.add_row(row);
  return table.text(color);
}

}  // namespace qwb
