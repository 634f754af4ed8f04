#include "formats/hf/plain.h"

#include <fmt/format.h>

#include <cmath>

#include "formats/hf/packed_source.h"
#include "formats/hf/packing.h"
#include "formats/model_check.h"
#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/dequantize.h"

namespace qwb {
namespace {

constexpr char kPlainFormat[] = "huggingface";

class PlainWriting : public PackedWriter {
 public:
  ModelWriter::Matrices matrices() const override { return ModelWriter::Matrices::alone; }
  Fit fit(const TargetModule& /*module*/, const WeightReader& /*read*/) const override {
    return {.how = How::plain};
  }
  std::vector<PartSpec> layout(const TargetModule& module) const override {
    return plain_layout(module);
  }
  PackedTensors write(const TargetModule& module, const Weight& weight, const Json& /*settings*/,
                      const Context& context) const override {
    return plain_tensors(module, weight, context);
  }
  Json quantization_config(const std::vector<TargetModule>& /*modules*/,
                           const std::vector<TargetModule>& /*plain*/) const override {
    return nullptr;
  }
};

// The settings of a folder whose weights nobody here reads.
[[noreturn]] void refuse_settings(const Json& settings, const Path& folder) {
  const std::string method =
      settings.is_object()
          ? json_string(settings, "quant_method", (folder / "config.json").string(), "?")
          : "?";
  if (method == "qwb") {
    throw Error(ErrorKind::failed,
                "config.json says this is a qwb artifact, but qwb.json is missing", folder.string(),
                "the artifact is incomplete");
  }
  throw Error(ErrorKind::unsupported,
              "the weights are already quantized by '" + method.substr(0, 40) + "'",
              folder.string(), "take the model it was made from");
}

OpenModel open_plain(const Path& folder, const Context& /*context*/) {
  const auto checkpoint = open_checkpoint(folder);
  const Json settings = announced_settings(folder, checkpoint->config());
  if (!settings.is_null()) refuse_settings(settings, folder);
  return {checkpoint, checkpoint->config(),      folder, kPlainFormat,
          nullptr,    checkpoint->weight_bytes()};
}

}  // namespace

std::vector<PartSpec> plain_layout(const TargetModule& module) {
  const WeightShape shape{module.layout.out, module.layout.in, module.plain};
  return {{module.name + ".weight", module.dtype, {shape.rows(), shape.columns()}}};
}

PackedTensors plain_tensors(const TargetModule& module, const Weight& weight,
                            const Context& context) {
  const int64_t rows = weight.rows(), columns = weight.columns();
  Tensor values(module.dtype, {rows, columns});
  const int64_t size = dtype_size(module.dtype);
  parallel_ranges(context, rows, std::max<int64_t>(1, (int64_t{1} << 15) / columns),
                  [&](int64_t begin, int64_t end) {
                    FloatBuffer buffer((end - begin) * columns);
                    dequantize_rows(weight, begin, end, buffer.data());
                    narrow_floats(buffer.data(), buffer.size(), module.dtype,
                                  values.bytes().data() + begin * columns * size, module.name);
                  });
  PackedTensors tensors;
  tensors.add(module.name + ".weight", weight.orientation == module.plain
                                           ? std::move(values)
                                           : transposed(values.view(), context));
  return tensors;
}

void narrow_floats(const float* values, int64_t count, DType type, std::byte* out,
                   const std::string& where) {
  const auto overflow = [&](float value) {
    if (!std::isfinite(value)) return;
    throw Error(ErrorKind::failed,
                fmt::format("the value {} does not fit {}", value, dtype_name(type)), where,
                "choose bf16 or f32");
  };
  if (type == DType::f32) {
    std::memcpy(out, values, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  if (type != DType::f16 && type != DType::bf16)
    throw Error(ErrorKind::usage, "floats are stored as F32, F16 or BF16", where);
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = type == DType::f16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
    const uint16_t infinite = type == DType::f16 ? 0x7c00 : 0x7f80;
    if ((bits & 0x7fff) == infinite) overflow(values[i]);
    store(out + 2 * i, bits);
  }
}

// Detects every folder with a config.json: it comes last.
std::vector<ModelFormat> plain_formats() {
  ModelFormat format = packed_format(kPlainFormat, "plain f32, f16 or bf16 (--dtype), dequantized",
                                     nullptr, std::make_shared<PlainWriting>());
  format.detect = [](const Place& place) { return place.has("config.json"); };
  format.open = open_plain;
  return {format};
}

}  // namespace qwb
