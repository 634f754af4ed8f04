#include "lib/jobs/convert_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/names.h"
#include "lib/base/text.h"
#include "lib/hub/origin.h"
#include "lib/jobs/gguf_job.h"
#include "lib/jobs/requantize.h"
#include "lib/quantize/ggml_quants.h"

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

namespace {

// Throws `failed` unless that many bytes are free where `place` is.
void require_disk_space(const Path& place, int64_t bytes) {
  const int64_t free = free_disk_space(place);
  if (free >= bytes) return;
  throw Error(ErrorKind::failed,
              fmt::format("this needs {}, and {} are free", human_bytes(bytes), human_bytes(free)),
              place.string(), "free some space or choose another place");
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

void tell_conversion(const Conversion& conversion, bool done, Progress& progress) {
  const auto& modules = conversion.modules();
  const auto exact =
      std::count_if(modules.begin(), modules.end(),
                    [](const ConvertedModule& module) { return module.how == How::exact; });
  if (conversion.exact() && !modules.empty()) {
    progress.note(fmt::format("exact: codes and scales of all {} modules {} those of the source",
                              modules.size(), done ? "are" : "will be"));
  } else if (exact > 0) {
    progress.note(fmt::format("exact: {} of {} modules", exact, modules.size()));
  }
  for (const How how : {How::rounded, How::requantized, How::plain}) {
    const std::string line = inexact_line(conversion, how, done);
    if (!line.empty()) progress.note(line);
  }
  progress.note(fmt::format("{} of tensors", human_bytes(conversion.tensor_bytes())));
}

// Of everything but gguf.
ConvertOptions convert_options(const ConvertRequest& request, const PackedFormat& target) {
  ConvertOptions options;
  options.dtype = request.dtype;
  options.round_scales = request.round_scales;
  options.replace = request.replace;
  if (request.max_shard_bytes > 0) options.max_shard_bytes = request.max_shard_bytes;
  if (request.requantize != nullptr)
    options.requantizer = make_requantizer(*request.requantize, request.settings, target);
  return options;
}

// GgufOptions::otherwise quantizes what GGUF cannot hold as it is. Of a source without quantized
// modules that would be nothing, and nobody means that: there it stands for the type of all.
void mean_type(GgufOptions& options, const OpenModel& open, Progress& progress) {
  if (!options.otherwise || options.type || !open.source->quantized_modules().empty()) return;
  options.type = std::exchange(options.otherwise, std::nullopt);
  const std::string name(ggml_info(*options.type).name);
  progress.note("nothing is quantized in the source: --requantize " + name + " means --type " +
                name + " here");
}

}  // namespace

ConvertJob::ConvertJob(ConvertRequest request, const Context& context)
    : ConvertJob(open_model(request.model, context), request, context) {}

ConvertJob::ConvertJob(OpenModel open, ConvertRequest request, const Context& context) {
  if (same_name(request.format, kGgufFormat)) {
    open_ = std::move(open);
    plan_gguf_file(std::move(request), context);
    return;
  }
  const PackedFormat& target = find_packed_format(request.format);
  ConvertOptions options = convert_options(request, target);
  options.revision = commit_of(open.folder).value_or("");
  conversion_ = std::make_unique<Conversion>(std::move(open), target, std::move(options), context);
}

void ConvertJob::plan_gguf_file(ConvertRequest request, const Context& context) {
  gguf_ = std::move(request.gguf);
  if (request.dtype) gguf_.plain = ggml_type_from_name(std::string(dtype_name(*request.dtype)));
  gguf_.encode = quantize_ggml;
  gguf_.replace = request.replace;
  mean_type(gguf_, open_, *context.progress);
  gguf_report_ = plan_gguf(open_, gguf_, context.silent());
}

int64_t ConvertJob::tensor_bytes() const {
  return conversion_ ? conversion_->tensor_bytes() : gguf_report_.tensor_bytes;
}

void ConvertJob::write(const Path& place, const Context& context) {
  require_disk_space(place.parent_path(), tensor_bytes());
  if (conversion_) return conversion_->write(place);
  gguf_report_ = write_gguf(open_, place, gguf_, context);
}

Json ConvertJob::report() const {
  return conversion_ ? conversion_json(*conversion_) : gguf_json(open_, gguf_report_);
}

void ConvertJob::tell(bool done, Progress& progress) const {
  conversion_ ? tell_conversion(*conversion_, done, progress)
              : tell_gguf(gguf_report_, done, progress);
}

}  // namespace qwb
