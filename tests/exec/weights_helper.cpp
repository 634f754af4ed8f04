#include "tests/exec/weights_helper.h"

#include <algorithm>

#include "lib/base/half.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"
#include "lib/codec/float_blocks.h"
#include "lib/codec/fp4_groups.h"
#include "lib/codec/fp8_blocks.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/codec/int8_rows.h"
#include "lib/codec/integer_grid.h"

namespace qwb {
namespace {

// The number behind "-g", else 64.
int64_t group_of(const std::string& kind) {
  const size_t at = kind.find("-g");
  return at == std::string::npos ? 64 : std::stoll(kind.substr(at + 2));
}

}  // namespace

std::vector<float> noise(int64_t count, uint64_t seed, float size) {
  Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = size * static_cast<float>(2 * rng.uniform() - 1);
  return values;
}

QuantizedTensor random_weight(const WeightLayout& layout, uint64_t seed) {
  QuantizedTensor tensor(layout);
  if (const auto* blocks = tensor.as<FloatBlocks>()) {
    FloatBlocks whole = *blocks;
    whole.nested_offset = 0.1f;
    tensor.set(std::move(whole));
  }
  Rng rng(seed);
  for (const PartSpec& spec : tensor.specs()) {
    Tensor& part = tensor.parts.at(spec.name);
    for (int64_t i = 0; i < part.count(); ++i) {
      const auto value = static_cast<float>(0.01 + 0.01 * rng.uniform());
      if (spec.dtype == DType::f64) part.data<double>()[i] = value;
      if (spec.dtype == DType::f32) part.data<float>()[i] = value;
      if (spec.dtype == DType::f16) part.data<uint16_t>()[i] = f32_to_f16(value);
      if (spec.dtype == DType::bf16) part.data<uint16_t>()[i] = f32_to_bf16(value);
      if (!dtype_is_float(spec.dtype)) {
        const bool ggml = tensor.as<GgmlBlocks>() != nullptr;
        part.bytes()[static_cast<size_t>(i)] = static_cast<std::byte>(rng.below(ggml ? 0x3c : 256));
      }
    }
  }
  return tensor;
}

RandomWeight random_weight(const std::string& kind, int64_t out, int64_t in, uint64_t seed) {
  RandomWeight made;
  Rng rng(seed);
  const auto fill_bytes = [&](Tensor& tensor) {
    for (std::byte& byte : tensor.bytes()) byte = static_cast<std::byte>(rng.next());
  };
  // Of eight bits: no NaN, E8M0 near 1.
  const auto fill_small_floats = [&](Tensor& tensor) {
    for (std::byte& byte : tensor.bytes())
      byte = static_cast<std::byte>(tensor.dtype() == DType::f8_e4m3 ? rng.next() & 0xf7
                                                                     : 124 + rng.below(4));
  };
  const auto fill_floats = [&](Tensor& tensor) {
    for (int64_t i = 0; i < tensor.count(); ++i) {
      const auto value = static_cast<float>(0.1 + rng.uniform());
      if (tensor.dtype() == DType::f32) tensor.data<float>()[i] = value;
      if (tensor.dtype() == DType::f16) tensor.data<uint16_t>()[i] = f32_to_f16(value);
      if (tensor.dtype() == DType::bf16) tensor.data<uint16_t>()[i] = f32_to_bf16(value);
    }
  };
  if (kind.starts_with("dense")) {
    const bool transposed = kind.ends_with("T");
    const DType dtype = kind.find("bf16") != std::string::npos  ? DType::bf16
                        : kind.find("f16") != std::string::npos ? DType::f16
                                                                : DType::f32;
    made.dense = Tensor(dtype, transposed ? Shape{in, out} : Shape{out, in});
    fill_floats(made.dense);
    made.weight = {out, in, transposed ? Orientation::in_out : Orientation::out_in,
                   DenseWeight{made.dense.view()}};
    return made;
  }
  QuantizedTensor& q = made.quantized;
  if (kind.starts_with("grid")) {
    const bool has = kind.find("asym") != std::string::npos;
    q = QuantizedTensor(integer_grid_layout(
        out, in,
        {.bits = kind[4] - '0',
         .group_size = std::min(in, group_of(kind)),
         .symmetric = !has,
         .scale_dtype = kind.find("bf16") != std::string::npos ? DType::bf16 : DType::f16,
         .group_index = kind.find("act") != std::string::npos}));
  } else if (kind == "int8") {
    q = QuantizedTensor(int8_rows_layout(out, in));
  } else if (kind.starts_with("fp8")) {
    q = QuantizedTensor(
        fp8_blocks_layout(out, in, std::min<int64_t>(2, out), std::min(in, group_of(kind))));
  } else if (kind == "nvfp4" || kind == "mxfp4") {
    q = QuantizedTensor(fp4_groups_layout(out, in, kind == "nvfp4" ? kNvfp4 : kMxfp4));
  } else {
    // Small nested blocks, so that small matrices have several nested statistics.
    q = QuantizedTensor(float_blocks_layout(
        {out, in, kind.ends_with("T") ? Orientation::in_out : Orientation::out_in},
        {.table = kind.starts_with("nf4") ? FloatBlocks::Table::nf4 : FloatBlocks::Table::fp4,
         .block_size = 64,
         .double_quantization = kind.find("double") != std::string::npos,
         .nested_block = 3}));
    FloatBlocks blocks = q.get<FloatBlocks>();
    blocks.nested_offset = 0.25f;
    q.set(std::move(blocks));
  }
  for (const PartSpec& spec : q.specs()) {
    Tensor& tensor = q.parts.at(spec.name);
    if (dtype_is_float(spec.dtype)) {
      fill_floats(tensor);
    } else if (spec.dtype == DType::f8_e4m3 || spec.dtype == DType::f8_e8m0) {
      fill_small_floats(tensor);
    } else {
      fill_bytes(tensor);
    }
    if (spec.name == "group_index") {  // act-order: columns in any group
      const int64_t groups = q.spec("scales").shape[1];
      for (int64_t i = 0; i < in; ++i)
        tensor.data<int32_t>()[i] = static_cast<int32_t>(rng.below(static_cast<uint64_t>(groups)));
    }
  }
  made.weight = q.view();
  return made;
}

}  // namespace qwb
