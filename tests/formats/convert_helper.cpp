#include "tests/formats/convert_helper.h"

#include <algorithm>

#include "formats/hf/packing.h"
#include "formats/qwb/artifact.h"
#include "lib/base/half.h"
#include "lib/codec/float_blocks.h"
#include "lib/codec/int8_rows.h"
#include "lib/codec/integer_grid.h"
#include "lib/quantize/encode/ggml_quants.h"
#include "tests/formats/files_helper.h"

namespace qwb {

std::vector<std::string> packed_golden_cases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kPackedGolden))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void expect_same_folders(const Path& a, const Path& b, const std::string& where) {
  const auto left = Checkpoint::open(a), right = Checkpoint::open(b);
  ASSERT_EQ(left->names(), right->names()) << where;
  for (const std::string& name : left->names()) {
    const TensorView x = *left->find(name), y = *right->find(name);
    EXPECT_EQ(dtype_name(x.dtype), dtype_name(y.dtype)) << where << ": " << name;
    EXPECT_EQ(x.shape, y.shape) << where << ": " << name;
    EXPECT_TRUE(std::ranges::equal(x.bytes, y.bytes)) << where << ": " << name;
  }
}

bool convert_folder(const Path& from, const std::string& to, const Path& out,
                    ConvertOptions options) {
  Conversion conversion(open_model(from), find_format(to), std::move(options));
  conversion.write(out);
  return conversion.exact();
}

std::vector<ConvertedModule> write_gguf(const OpenModel& open, const Path& file,
                                        ConvertOptions options, const Context& context) {
  options.encode = quantize_ggml;
  options.replace = true;
  Conversion conversion(open, find_format("gguf"), std::move(options), context);
  conversion.write(file);
  return conversion.modules();
}

ConvertOptions gguf_type(std::optional<GgmlType> type) {
  ConvertOptions options;
  options.types.all = type;
  return options;
}

std::string grid_text(const RandomGrid& shape) {
  return std::to_string(shape.bits) + " bits, [" + std::to_string(shape.out) + ", " +
         std::to_string(shape.in) + "], groups of " + std::to_string(shape.group) +
         (shape.symmetric ? ", symmetric" : "") + (shape.scattered ? ", act-order" : "");
}

QuantizedTensor random_grid(const RandomGrid& shape, uint64_t seed, bool powers_of_two) {
  Rng rng(seed);
  QuantizedTensor tensor(integer_grid_layout(
      shape.out, shape.in,
      {shape.bits, shape.group, shape.symmetric, shape.scales, shape.scattered}));
  const int64_t groups = ceil_div(shape.in, shape.group);
  const auto random_codes = [&](int64_t columns) {
    CodeMatrix codes(shape.out, columns);
    for (uint8_t& code : codes.codes)
      code = static_cast<uint8_t>(rng.below(uint64_t{1} << shape.bits));
    return codes;
  };
  tensor.parts["codes"] = pack_rows(random_codes(shape.in), shape.bits);
  if (!shape.symmetric) {
    CodeMatrix zeros = random_codes(groups);
    zeros.at(0, 0) = 1;
    tensor.parts["zeros"] = pack_rows(zeros, shape.bits);
  }
  Tensor scales(shape.scales, {shape.out, groups});
  for (int64_t i = 0; i < scales.count(); ++i) {
    const float value = powers_of_two ? 1.0f / static_cast<float>(1 << rng.below(12))
                                      : static_cast<float>(1 + rng.below(1000)) / 4096.0f;
    if (shape.scales == DType::f32) {
      scales.data<float>()[i] = value;
    } else {
      scales.data<uint16_t>()[i] = f32_to_f16(value);
    }
  }
  tensor.parts["scales"] = std::move(scales);
  if (shape.scattered) {
    Tensor index(DType::i32, {shape.in});
    for (int64_t i = 0; i < shape.in; ++i)
      index.data<int32_t>()[i] = static_cast<int32_t>(rng.below(static_cast<uint64_t>(groups)));
    index.data<int32_t>()[0] = static_cast<int32_t>(groups - 1);
    tensor.parts["group_index"] = std::move(index);
  }
  return tensor;
}

namespace {

Tensor random_floats(const Shape& shape, Rng& rng) {
  Tensor tensor(DType::f32, shape);
  for (int64_t i = 0; i < tensor.count(); ++i)
    tensor.data<float>()[i] = static_cast<float>(rng.uniform());
  return tensor;
}

Tensor random_bytes(DType type, const Shape& shape, Rng& rng) {
  Tensor tensor(type, shape);
  for (std::byte& byte : tensor.bytes()) byte = static_cast<std::byte>(rng.next());
  return tensor;
}

}  // namespace

QuantizedTensor random_int8(int64_t out, int64_t in, uint64_t seed) {
  Rng rng(seed);
  QuantizedTensor tensor(int8_rows_layout(out, in));
  tensor.parts["codes"] = random_bytes(DType::i8, {out, in}, rng);
  tensor.parts["absmax"] = random_floats({out}, rng);
  return tensor;
}

QuantizedTensor random_blocks(int64_t out, int64_t in, int table, int64_t block, bool nested,
                              uint64_t seed) {
  Rng rng(seed);
  QuantizedTensor tensor(float_blocks_layout(
      {out, in}, {table == 0 ? FloatBlocks::Table::nf4 : FloatBlocks::Table::fp4, block, nested}));
  if (nested) {
    FloatBlocks blocks = tensor.get<FloatBlocks>();
    blocks.nested_offset = static_cast<float>(rng.uniform());
    tensor.set(std::move(blocks));
  }
  for (const PartSpec& spec : tensor.specs()) {
    const bool floats = spec.dtype == DType::f32;
    tensor.parts[spec.name] =
        floats ? random_floats(spec.shape, rng) : random_bytes(spec.dtype, spec.shape, rng);
  }
  return tensor;
}

void write_artifact(const Path& folder, const std::string& config, const NamedTensors& modules,
                    const std::vector<PartSpec>& plain) {
  const Path source = folder.string() + "-source";
  std::filesystem::create_directory(source);
  write(source / "config.json", config);
  std::vector<PartSpec> specs = plain;
  for (const auto& [name, tensor] : modules)
    specs.push_back({name + ".weight", DType::f32, {tensor->out, tensor->in}});
  {
    SafetensorsWriter writer(source / "model.safetensors", specs);
    for (const PartSpec& spec : specs) {
      const Tensor ones(spec.dtype, spec.shape);
      std::fill_n(ones.data<float>(), ones.count(), 1.0f);
      writer.put(spec.name, ones.view().bytes);
    }
    writer.finish();
  }
  std::vector<NamedLayout> entries;
  for (const auto& [name, tensor] : modules) entries.push_back({name, *tensor});
  ArtifactWriter writer(folder, open_model(source), entries);
  for (const auto& [name, tensor] : modules) writer.put(name, *tensor);
  writer.finish({.method = "rtn"});
}

void write_artifact(const Path& folder, const QuantizedTensor& tensor) {
  write_artifact(folder, R"({"model_type": "golden", "torch_dtype": "float32"})",
                 {{kModule, &tensor}}, {{"norm.weight", DType::f32, {2}}});
}

}  // namespace qwb
