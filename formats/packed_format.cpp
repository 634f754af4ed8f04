#include "formats/packed_format.h"

#include "lib/base/names.h"

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

LoadedWeight PackedFormat::read_words(const Checkpoint& files, const Json& settings,
                                      const PackedModule& module, const Context& context) const {
  return read(files, settings, module, context);
}

PackedTensors PackedFormat::write_words(const TargetModule& module, const Weight& weight,
                                        const Json& settings, const Context& context) const {
  return write(module, weight, settings, context);
}

const PackedFormat& find_packed_format(std::string_view name) {
  std::string names;
  for (const auto& format : packed_formats()) {
    if (same_name(format->name(), name)) return *format;
    names += (names.empty() ? "" : ", ") + format->name();
  }
  throw Error(ErrorKind::usage, "there is no format '" + std::string(name) + "'", {},
              "the formats are " + names + ", gguf");
}

const PackedFormat* detect_packed_format(const Json& settings) {
  for (const auto& format : packed_formats()) {
    if (format->matches(settings)) return format.get();
  }
  return nullptr;
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
