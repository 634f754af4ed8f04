#include "formats/hf/packed_format.h"

#include <fmt/format.h>

#include "formats/convert_weights.h"
#include "formats/hf/folder_writer.h"
#include "formats/hf/packed_source.h"
#include "formats/model_check.h"
#include "lib/codec/integer_grid.h"
#include "lib/tensor/small_numbers.h"

namespace qwb {
namespace {

[[noreturn]] void wrong_tensor(const std::string& name, const TensorView& view,
                               const std::string& expected) {
  throw Error(ErrorKind::failed,
              "is " + std::string(dtype_name(view.dtype)) + " " + shape_text(view.shape) +
                  ", expected " + expected,
              "tensor '" + name + "'",
              "the checkpoint is damaged, or its config.json belongs to another");
}

TensorView found_tensor(const Checkpoint& files, const std::string& name) {
  const auto view = files.find(name);
  if (!view) {
    throw Error(ErrorKind::failed, "tensor '" + name + "' is missing", files.folder().string(),
                "the checkpoint is damaged or incomplete");
  }
  if (view->empty()) wrong_tensor(name, *view, "at least one element");
  return *view;
}

}  // namespace

LoadedWeight PackedReader::read_words(const Checkpoint& files, const Json& settings,
                                      const PackedModule& module, const Context& context) const {
  return read(files, settings, module, context);
}

PackedTensors PackedWriter::write_words(const TargetModule& module, const Weight& weight,
                                        const Json& settings, const Context& context) const {
  return write(module, weight, settings, context);
}

Fit fit_scales(const TargetModule& module, DType type, const WeightReader& read) {
  const auto* grid = module.layout.as<IntegerGrid>();
  if (grid == nullptr || grid->scales.dtype == type) return {};
  const std::string wanted(dtype_name(type));
  IntegerGrid changed = *grid;
  changed.scales.dtype = type;
  Fit fit{.layout = WeightLayout(module.layout, std::move(changed))};
  if (!read) {
    fit.how = How::rounded;
    fit.reason = fmt::format("has {} scales, and there are only {} ones",
                             dtype_name(grid->scales.dtype), wanted);
    return fit;
  }
  const LoadedWeight loaded = read();
  const TensorView& scales = loaded.weight.get<IntegerGrid>().scales;
  const NarrowScales narrowed = narrow_scales(scales, type, nullptr);
  if (narrowed.overflow)
    return Fit::no(fmt::format("has the scale {}, which overflows {}", *narrowed.overflow, wanted));
  if (narrowed.lost > tolerated_code_loss(module.layout.code_bits()))
    return Fit::no(
        fmt::format("has scales that underflow {} ({}, say)", wanted, narrowed.first_lossy));
  if (narrowed.lossy == 0) return fit;
  fit.how = How::rounded;
  fit.reason = fmt::format("has {} of {} scales that {} does not hold exactly ({}, say)",
                           narrowed.lossy, scales.count(), wanted, narrowed.first_lossy);
  return fit;
}

ModelFormat packed_format(std::string name, std::string summary,
                          std::shared_ptr<const PackedReader> reader,
                          std::shared_ptr<const PackedWriter> writer) {
  ModelFormat format{.name = std::move(name), .summary = std::move(summary)};
  if (reader) {
    format.detect = [reader](const Place& place) {
      try {
        return place.settings().is_object() && reader->matches(place.settings());
      } catch (const Error&) {
        return false;
      }
    };
    format.open = [reader](const Path& folder, const Context& context) {
      return open_packed(open_checkpoint(folder), reader, context);
    };
  }
  if (!writer) return format;
  format.writer = [writer](const OpenModel& source, const WriterOptions& options,
                           const Context& context) {
    return std::make_unique<FolderWriter>(source, writer, options, context);
  };
  return format;
}

TensorView packed_tensor_of(const Checkpoint& files, const std::string& name, DType type,
                            size_t dimensions) {
  TensorView view = found_tensor(files, name);
  if (view.dtype != type || view.shape.size() != dimensions) {
    wrong_tensor(
        name, view,
        std::string(dtype_name(type)) + " of " + std::to_string(dimensions) + " dimensions");
  }
  return view;
}

TensorView packed_tensor(const Checkpoint& files, const std::string& name, DType type,
                         const Shape& shape) {
  TensorView view = found_tensor(files, name);
  if (view.dtype != type || view.shape != shape)
    wrong_tensor(name, view, std::string(dtype_name(type)) + " " + shape_text(shape));
  return view;
}

TensorView packed_scales(const Checkpoint& files, const std::string& name, const Shape& shape) {
  TensorView view = found_tensor(files, name);
  const bool is_float =
      view.dtype == DType::f16 || view.dtype == DType::bf16 || view.dtype == DType::f32;
  if (!is_float || view.shape != shape)
    wrong_tensor(name, view, "F16, BF16 or F32 " + shape_text(shape));
  return view;
}

}  // namespace qwb
