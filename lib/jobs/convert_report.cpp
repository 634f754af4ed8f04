#include "lib/jobs/convert_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "lib/base/text.h"

namespace qwb {
namespace {

constexpr size_t kTold = 3;  // modules named for what they lost

using Modules = std::vector<const ConvertedModule*>;

Modules modules_that_are(const Conversion& conversion, How how) {
  Modules list;
  for (const ConvertedModule& module : conversion.modules()) {
    if (module.how == how) list.push_back(&module);
  }
  return list;
}

// "largest relative weight error added: ..." of the three worst.
std::string worst_errors(Modules modules) {
  std::stable_sort(
      modules.begin(), modules.end(),
      [](const ConvertedModule* a, const ConvertedModule* b) { return a->error > b->error; });
  if (modules.empty() || modules.front()->error <= 0) return "no value changed";
  std::string text = "largest relative weight error added: ";
  for (size_t i = 0; i < std::min(kTold, modules.size()); ++i)
    text += fmt::format("{}{:.2e} in {}", i == 0 ? "" : ", ", modules[i]->error,
                        modules[i]->target.name);
  return text;
}

std::string inexact_line(const Conversion& conversion, How how, bool done) {
  const Modules modules = modules_that_are(conversion, how);
  if (modules.empty()) return {};
  std::string text =
      fmt::format("{}: {} module{}", how_name(how), modules.size(), modules.size() == 1 ? "" : "s");
  const ConvertedModule& first = *modules.front();
  if (!first.reason.empty()) text += fmt::format(" ({}: {})", first.target.name, first.reason);
  return done ? text + "; " + worst_errors(modules) : text;
}

// "14 Q4_0, 1 F16"; empty where tensors have no types.
std::string type_line(const Conversion& conversion) {
  std::map<std::string, int> types;
  for (const ConvertedModule& module : conversion.modules()) {
    if (!module.type.empty()) ++types[module.type];
  }
  std::string text;
  for (const auto& [name, count] : types)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, name);
  return text;
}

Json module_json(const ConvertedModule& module) {
  Json json = {{"name", module.target.name}};
  if (!module.tensor.empty()) json["tensor"] = module.tensor;
  if (!module.type.empty()) json["type"] = module.type;
  json["how"] = how_name(module.how);
  json["reason"] = module.reason.empty() ? Json(nullptr) : Json(module.reason);
  json["error"] = module.error;
  return json;
}

}  // namespace

Json conversion_json(const Conversion& conversion) {
  std::map<std::string, int> counts;
  Json modules = Json::array();
  for (const ConvertedModule& module : conversion.modules()) {
    ++counts[how_name(module.how)];
    modules.push_back(module_json(module));
  }
  return {{"schema", 1},
          {"source", conversion.source().folder.string()},
          {"source_format", conversion.source().format},
          {"format", conversion.target()},
          {"exact", conversion.exact()},
          {"bytes", conversion.tensor_bytes()},
          {"modules", modules},
          {"counts", counts}};
}

void log_conversion(const Conversion& conversion, bool done, Progress& progress) {
  const size_t all = conversion.modules().size();
  const size_t exact = modules_that_are(conversion, How::exact).size();
  const std::string types = type_line(conversion);
  if (exact == all && all > 0) {
    // Without types, every module is a quantized one.
    progress.note(fmt::format("exact: {} of all {} modules {} those of the source",
                              types.empty() ? "codes and scales" : "the values", all,
                              done ? "are" : "will be"));
  } else if (exact > 0) {
    progress.note(fmt::format("exact: {} of {} modules", exact, all));
  }
  for (const How how : {How::rounded, How::requantized, How::plain}) {
    const std::string line = inexact_line(conversion, how, done);
    if (!line.empty()) progress.note(line);
  }
  progress.note(fmt::format("{}{} of tensors", types.empty() ? "" : types + "; ",
                            human_bytes(conversion.tensor_bytes())));
}

}  // namespace qwb
