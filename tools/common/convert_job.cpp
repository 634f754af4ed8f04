#include "tools/common/convert_job.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/names.h"
#include "lib/base/text.h"
#include "tools/common/gguf_job.h"

namespace qwb {
namespace {

using How = ConvertedModule::How;

constexpr size_t kTold = 3;  // modules named for what they lost

std::string inexact_line(const Conversion& conversion, How how, bool done) {
  std::vector<const ConvertedModule*> modules;
  for (const ConvertedModule& module : conversion.modules()) {
    if (module.how == how) modules.push_back(&module);
  }
  if (modules.empty()) return {};
  std::string text =
      fmt::format("{}: {} module{}", how_name(how), modules.size(), modules.size() == 1 ? "" : "s");
  if (!modules.front()->reason.empty())
    text += fmt::format(" ({} {})", modules.front()->target.name, modules.front()->reason);
  if (!done) return text;
  std::vector<AddedError> errors;
  errors.reserve(modules.size());
  for (const ConvertedModule* module : modules)
    errors.push_back({module->error, module->target.name});
  return text + "; " + worst_errors(std::move(errors));
}

}  // namespace

std::string worst_errors(std::vector<AddedError> errors) {
  std::stable_sort(errors.begin(), errors.end(),
                   [](const AddedError& a, const AddedError& b) { return a.error > b.error; });
  if (errors.empty() || errors.front().error <= 0) return "no value changed";
  std::string text = "largest relative weight error added: ";
  for (size_t i = 0; i < std::min(kTold, errors.size()); ++i)
    text += fmt::format("{}{:.2e} in {}", i == 0 ? "" : ", ", errors[i].error, errors[i].module);
  return text;
}

std::string format_help() {
  std::string text = "what to write:";
  for (const auto& format : packed_formats())
    text += "\n" + format->name() + ": " + format->summary();
  return text + "\n" + kGgufFormat +
         ": one file for llama.cpp and its kin, with tokenizer and chat template";
}

std::string format_names() {
  std::string names;
  for (const auto& format : packed_formats()) names += format->name() + ", ";
  return names + kGgufFormat;
}

void require_disk_space(const Path& place, int64_t bytes) {
  const int64_t free = free_disk_space(place);
  if (free >= bytes) return;
  throw Error(ErrorKind::failed,
              fmt::format("this needs {}, and {} are free", human_bytes(bytes), human_bytes(free)),
              place.string(), "free some space or choose another place");
}

DType parse_dtype(const std::string& text) {
  const std::string name = lower_case(text);
  if (name == "f32" || name == "float32") return DType::f32;
  if (name == "f16" || name == "float16") return DType::f16;
  if (name == "bf16" || name == "bfloat16") return DType::bf16;
  throw Error(ErrorKind::usage, "--dtype must be f32, f16 or bf16, not '" + text + "'");
}

Json conversion_json(const Conversion& conversion) {
  Json json = {{"schema", 1},
               {"source", conversion.source().folder.string()},
               {"source_format", conversion.source().format},
               {"format", conversion.target().name()},
               {"exact", conversion.exact()},
               {"bytes", conversion.tensor_bytes()}};
  Json counts = Json::object();
  json["modules"] = Json::array();
  for (const ConvertedModule& module : conversion.modules()) {
    Json& count = counts[how_name(module.how)];
    count = count.is_null() ? 1 : count.get<int>() + 1;
    json["modules"].push_back(
        {{"name", module.target.name},
         {"how", how_name(module.how)},
         {"reason", module.reason.empty() ? Json(nullptr) : Json(module.reason)},
         {"error", module.error}});
  }
  json["counts"] = counts;
  return json;
}

void tell_conversion(const Conversion& conversion, bool done, Tool& tool) {
  const auto& modules = conversion.modules();
  const auto exact =
      std::count_if(modules.begin(), modules.end(),
                    [](const ConvertedModule& module) { return module.how == How::exact; });
  if (conversion.exact() && !modules.empty()) {
    tool.note(fmt::format("exact: codes and scales of all {} modules {} those of the source",
                          modules.size(), done ? "are" : "will be"));
  } else if (exact > 0) {
    tool.note(fmt::format("exact: {} of {} modules", exact, modules.size()));
  }
  for (const How how : {How::rounded, How::requantized, How::plain}) {
    const std::string line = inexact_line(conversion, how, done);
    if (!line.empty()) tool.note(line);
  }
  tool.note(fmt::format("{} of tensors", human_bytes(conversion.tensor_bytes())));
}

}  // namespace qwb
