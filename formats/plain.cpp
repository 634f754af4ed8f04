#include "formats/plain.h"

#include <fmt/format.h>

#include <cmath>

#include "formats/packing.h"
#include "lib/base/half.h"
#include "lib/base/parallel.h"
#include "lib/exec/cpu/dequantize.h"

namespace qwb {
namespace {

class Plain : public PackedFormat {
 public:
  std::string name() const override { return "huggingface"; }
  std::string summary() const override { return "plain f32, f16 or bf16 (--dtype), dequantized"; }
  bool matches(const Json& /*settings*/) const override { return false; }
  std::vector<PackedModule> modules(const Checkpoint& /*files*/, const Json& /*settings*/,
                                    const Context& /*context*/) const override {
    return {};
  }
  LoadedWeight read(const Checkpoint& files, const Json& /*settings*/, const PackedModule& module,
                    const Context& /*context*/) const override {
    throw Error(ErrorKind::usage, "plain tensors are read as they are",
                files.folder().string() + ": " + module.name);
  }
  std::optional<std::string> mismatch(const TargetModule& /*module*/) const override {
    return std::nullopt;
  }
  std::vector<PartSpec> layout(const TargetModule& module) const override {
    const WeightShape shape{module.layout.out, module.layout.in, module.plain};
    return {{module.name + ".weight", module.dtype, {shape.rows(), shape.columns()}}};
  }
  PackedTensors write(const TargetModule& module, const Weight& weight, const Json& settings,
                      const Context& context) const override;
  Json quantization_config(const std::vector<TargetModule>& /*modules*/,
                           const std::vector<TargetModule>& /*plain*/) const override {
    return nullptr;
  }
};

PackedTensors Plain::write(const TargetModule& module, const Weight& weight,
                           const Json& /*settings*/, const Context& context) const {
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

}  // namespace

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

std::unique_ptr<PackedFormat> make_plain() {
  return std::make_unique<Plain>();
}

}  // namespace qwb
