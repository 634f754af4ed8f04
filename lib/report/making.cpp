#include "lib/report/making.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <system_error>

#include "formats/qwb/artifact.h"
#include "formats/registry.h"
#include "lib/base/error.h"
#include "lib/report/readings.h"

namespace qwb::report {
namespace {

std::optional<double> number_of(const Json& object, const char* key, const std::string& where) {
  return json_has(object, key) ? std::optional(json_number(object, key, where)) : std::nullopt;
}

// "model.layers.12.mlp.up_proj" -> 12
std::optional<int64_t> block_of(const std::string& module) {
  size_t begin = 0;
  while (begin < module.size()) {
    const size_t end = std::min(module.find('.', begin), module.size());
    const std::string word = module.substr(begin, end - begin);
    const bool digits =
        !word.empty() && word.size() < 10 &&
        std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (digits) return std::stoll(word);
    begin = end + 1;
  }
  return std::nullopt;
}

std::string calibration_text(const Json& manifest, const std::string& where) {
  if (!json_has(manifest, "calibration")) return {};
  const Json& c = manifest.at("calibration");
  std::string text = json_string(c, "name", where, "unnamed");
  if (json_has(c, "windows")) text += fmt::format(", {} windows", json_int(c, "windows", where));
  if (json_has(c, "tokens")) text += fmt::format(", {} tokens", json_int(c, "tokens", where));
  return text;
}

ModuleError module_error(const Json& module, const std::string& where) {
  ModuleError error;
  error.name = json_string(module, "name", where);
  error.block = block_of(error.name);
  error.weight_error = number_of(module, "weight_error", where);
  error.output_error = number_of(module, "output_error", where);
  if (json_has(module, "details"))
    error.rounding_error = number_of(module.at("details"), "rounding_error", where);
  return error;
}

}  // namespace

std::optional<Making> making_of(const Path& folder) {
  const Path file = folder / "qwb.json";
  std::error_code ignored;
  if (folder.empty() || !std::filesystem::is_regular_file(file, ignored)) return std::nullopt;
  const std::string where = file.string();
  const Json json = parse_artifact_manifest(read_text(file), where).json;
  Making making;
  if (json_has(json, "source")) {
    const Json& source = json.at("source");
    making.source = json_string(source, "path", where, json_string(source, "name", where, ""));
    making.source_hash = json_string(source, "hash", where, "");
  }
  making.calibration = calibration_text(json, where);
  making.settings = json_has(json, "settings") ? json.at("settings") : Json::object();
  if (json_has(json, "totals")) {
    making.seconds = number_of(json.at("totals"), "seconds", where);
    making.peak_bytes = number_of(json.at("totals"), "peak_memory", where);
  }
  for (const Json& module : json.at("modules"))
    making.modules.push_back(module_error(module, where));
  return making;
}

std::optional<Path> source_folder(const Making& making, const Path& folder) {
  if (making.source.empty()) return std::nullopt;
  for (const Path& candidate : {Path(making.source), folder / making.source}) {
    if (detect_model(candidate)) return candidate;
  }
  return std::nullopt;
}

std::vector<Reading> readings_of(const std::optional<Making>& making) {
  Figure seconds, peak;
  if (making) {
    seconds.value = making->seconds;
    peak.value = making->peak_bytes;
  }
  seconds.why = peak.why = making ? "qwb.json does not tell it" : "no qwb.json";
  return {{{"make_seconds", "time to make", MetricGroup::making, Quantity::seconds, Better::lower,
            BoundsKind::none},
           "",
           seconds},
          {{"make_memory", "memory to make", MetricGroup::making, Quantity::bytes, Better::lower,
            BoundsKind::none},
           "",
           peak}};
}

}  // namespace qwb::report
