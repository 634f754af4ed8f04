#include "lib/jobs/convert_job.h"

#include <fmt/format.h>

#include <utility>

#include "formats/convert.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/hub/origin.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/convert_report.h"
#include "lib/jobs/requantize.h"
#include "lib/quantize/encode/ggml_quants.h"

namespace qwb {
namespace {

// Throws `failed` unless that many bytes are free where `place` is.
void require_disk_space(const Path& place, int64_t bytes) {
  const int64_t free = free_disk_space(place);
  if (free >= bytes) return;
  throw Error(ErrorKind::failed,
              fmt::format("this needs {}, and {} are free", human_bytes(bytes), human_bytes(free)),
              place.string(), "free some space or choose another place");
}

ConvertOptions convert_options(const ConvertRequest& request, const OpenModel& open) {
  ConvertOptions options;
  options.dtype = request.dtype;
  options.round_scales = request.round_scales;
  options.replace = request.replace;
  if (request.max_shard_bytes > 0) options.max_shard_bytes = request.max_shard_bytes;
  options.types = request.types;
  options.encode = quantize_ggml;
  options.revision = hub::commit_of(open.folder).value_or("");
  if (request.requantize != nullptr) {
    require_no_calibration(*request.requantize);
    options.requantizer = [method = request.requantize,
                           settings = request.settings](std::optional<DType> scales) {
      return make_requantizer(*method, settings, scales);
    };
  }
  return options;
}

// `otherwise` is for what the format cannot hold as it is. Of a source without quantized modules
// that would be nothing, and nobody means that: there it stands for the type of all.
void mean_type(TensorTypes& types, const OpenModel& open, Progress& progress) {
  if (!types.otherwise || types.all || !open.source->quantized_modules().empty()) return;
  types.all = std::exchange(types.otherwise, std::nullopt);
  const std::string name(ggml_info(*types.all).name);
  progress.note("nothing is quantized in the source: --requantize " + name + " means --type " +
                name + " here");
}

}  // namespace

std::string format_help() {
  std::string text = "what to write:";
  for (const ModelFormat& format : model_formats()) {
    if (format.writer) text += "\n" + format.name + ": " + format.summary;
  }
  return text;
}

std::string format_names() {
  std::string names;
  for (const ModelFormat& format : model_formats()) {
    if (format.writer) names += (names.empty() ? "" : ", ") + format.name;
  }
  return names;
}

ConvertJob::ConvertJob(ConvertRequest request, const Context& context) {
  if (!request.only_plan) {
    undamaged_ =
        std::async(std::launch::async, require_undamaged_if_summed, request.model, context.stop);
  }
  try {
    OpenModel open = open_model(request.model, context);
    plan(std::move(open), std::move(request), context);
  } catch (...) {
    require_undamaged();  // a damage explains whatever went wrong
    throw;
  }
}

ConvertJob::ConvertJob(OpenModel open, ConvertRequest request, const Context& context) {
  plan(std::move(open), std::move(request), context);
}

void ConvertJob::require_undamaged() {
  if (undamaged_.valid()) undamaged_.get();
}

void ConvertJob::plan(OpenModel open, ConvertRequest request, const Context& context) {
  mean_type(request.types, open, *context.progress);
  ConvertOptions options = convert_options(request, open);
  conversion_ = std::make_unique<Conversion>(std::move(open), find_format(request.format),
                                             std::move(options), context);
}

void ConvertJob::write(const Path& place) {
  require_disk_space(place.parent_path(), tensor_bytes());
  try {
    conversion_->write(place, [this] { require_undamaged(); });
  } catch (...) {
    require_undamaged();
    throw;
  }
}

ConvertJob::ConvertJob(ConvertJob&&) noexcept = default;
ConvertJob::~ConvertJob() = default;

int64_t ConvertJob::tensor_bytes() const {
  return conversion_->tensor_bytes();
}

Json ConvertJob::report() const {
  return conversion_json(*conversion_);
}

void ConvertJob::log(bool done, Progress& progress) const {
  log_conversion(*conversion_, done, progress);
}

}  // namespace qwb
