#include "tests/quantize/demo_helper.h"

#include "lib/base/hash.h"
#include "lib/base/rng.h"
#include "lib/codec/dense.h"
#include "lib/codec/float_blocks.h"
#include "lib/codec/ggml_blocks.h"
#include "lib/codec/int8_rows.h"
#include "lib/codec/integer_grid.h"
#include "lib/exec/cpu/dequantize.h"
#include "lib/quantize/encode/float_blocks.h"

namespace qwb {

std::string source_path(const std::string& relative) {
  return std::string(QWB_SOURCE_DIR) + "/" + relative;
}

namespace {

std::string model_path(const std::string& name, const std::string& file) {
  const bool folder = name.find('/') != std::string::npos;
  return source_path((folder ? name : "recipes/demo/" + name) + "/" + file);
}

}  // namespace

DemoModel::DemoModel(const std::string& name)
    : file_(MappedFile::open(model_path(name, "model.safetensors"))) {
  const auto length = load<uint64_t>(file_.bytes().data());
  header_ = parse_json(as_text(file_.bytes().subspan(8, length)), name);
  data_ = file_.bytes().subspan(8 + length);
}

TensorView DemoModel::tensor(const std::string& name) const {
  const Json& entry = header_.at(name);
  const auto begin = entry["data_offsets"][0].get<size_t>(),
             end = entry["data_offsets"][1].get<size_t>();
  return {dtype_from_name(entry["dtype"].get<std::string>()).value(), entry["shape"].get<Shape>(),
          data_.subspan(begin, end - begin)};
}

std::vector<std::string> DemoModel::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : header_.items()) {
    if (name != "__metadata__") names.push_back(name);
  }
  return names;
}

std::optional<TensorView> DemoSource::find(const std::string& name) const {
  const size_t weight = name.rfind(".weight");
  if (weight != std::string::npos && modules.contains(name.substr(0, weight))) return std::nullopt;
  if (const auto it = tensors.find(name); it != tensors.end()) return it->second.view();
  return demo.has(name) ? std::optional(demo.tensor(name)) : std::nullopt;
}

std::optional<Weight> DemoSource::quantized(const std::string& module) const {
  const auto it = modules.find(module);
  return it == modules.end() ? std::nullopt : std::optional(it->second.view());
}

Json demo_config(const std::string& name) {
  return parse_json(read_text(model_path(name, "config.json")), name);
}

ModuleTask make_task(const std::string& name, const TensorView& weight, bool in_out) {
  ModuleTask task;
  const auto rows = weight.shape[0], columns = weight.shape[1];
  task.info = {name, in_out ? columns : rows, in_out ? rows : columns,
               in_out ? Orientation::in_out : Orientation::out_in, weight.dtype};
  task.weight = weight;
  return task;
}

Tensor make_tensor(const std::vector<float>& values, Shape shape) {
  Tensor tensor(DType::f32, std::move(shape));
  if (static_cast<int64_t>(values.size()) != tensor.count())
    throw Error(ErrorKind::failed, "wrong number of values");
  std::memcpy(tensor.bytes().data(), values.data(), values.size() * sizeof(float));
  return tensor;
}

namespace {

std::vector<uint8_t> unpack_rows(const TensorView& view, int64_t count, int bits) {
  const int64_t rows = view.shape[0];
  std::vector<uint8_t> codes(static_cast<size_t>(rows * count));
  for (int64_t r = 0; r < rows; ++r) {
    unpack_codes(view.bytes.data() + r * packed_bytes(count, bits), count, bits,
                 codes.data() + r * count);
  }
  return codes;
}

std::vector<float> values_of(const IntegerGrid& grid, const Weight& weight) {
  const int64_t groups = ceil_div(weight.in, grid.group_size);
  const auto codes = unpack_rows(grid.codes, weight.in, grid.bits);
  const auto scales = read_floats(grid.scales, "scales");
  std::vector<uint8_t> zeros(static_cast<size_t>(weight.out * groups),
                             static_cast<uint8_t>(1 << (grid.bits - 1)));
  if (!grid.zeros.empty()) zeros = unpack_rows(grid.zeros, groups, grid.bits);
  std::vector<float> values(codes.size());
  for (size_t k = 0; k < values.size(); ++k) {
    const auto o = static_cast<int64_t>(k) / weight.in, i = static_cast<int64_t>(k) % weight.in;
    const auto g = static_cast<size_t>(o * groups + i / grid.group_size);
    values[k] = static_cast<float>(codes[k] - zeros[g]) * scales[g];
  }
  return values;
}

std::vector<float> values_of(const Int8Rows& rows, const Weight& weight) {
  const auto absmax = read_floats(rows.absmax, "absmax");
  std::vector<float> values(static_cast<size_t>(weight.out * weight.in));
  for (size_t k = 0; k < values.size(); ++k) {
    const auto code = static_cast<float>(load<int8_t>(rows.codes.bytes.data() + k));
    values[k] = code * (absmax[k / static_cast<size_t>(weight.in)] * (1.0f / 127.0f));
  }
  return values;
}

std::vector<float> values_of(const FloatBlocks& blocks, const Weight& weight) {
  std::vector<float> values(static_cast<size_t>(weight.out * weight.in));
  const bool nested = !blocks.nested_absmax.empty();
  const auto absmax = nested ? std::vector<float>{} : read_floats(blocks.absmax, "absmax");
  const auto nested_absmax =
      nested ? read_floats(blocks.nested_absmax, "absmax") : std::vector<float>{};
  const auto map = nested ? read_floats(blocks.nested_map, "map") : std::vector<float>{};
  for (size_t k = 0; k < values.size(); ++k) {
    const size_t b = k / static_cast<size_t>(blocks.block_size);
    const auto pair = static_cast<int>(blocks.codes.bytes[k / 2]);
    const int code = k % 2 == 0 ? pair >> 4 : pair & 15;
    const float scale = nested
                            ? map[static_cast<size_t>(blocks.absmax.bytes[b])] *
                                      nested_absmax[b / static_cast<size_t>(blocks.nested_block)] +
                                  *blocks.nested_offset
                            : absmax[b];
    values[k] = float_table(blocks.table)[static_cast<size_t>(code)] * scale;
  }
  return values;
}

std::vector<float> values_of(const DenseWeight& dense, const Weight& /*weight*/) {
  return read_floats(dense.values, "dense");
}

std::vector<float> values_of(const GgmlBlocks& /*ggml*/, const Weight& weight) {
  std::vector<float> values(static_cast<size_t>(weight.out * weight.in));
  dequantize_rows(weight, 0, weight.out, values.data());
  return values;
}

}  // namespace

CalibrationSet random_windows(int64_t count, int64_t length, int64_t vocab) {
  CalibrationSet set;
  set.length = length;
  Rng rng(5);
  for (int64_t w = 0; w < count; ++w) {
    set.windows.emplace_back();
    for (int64_t t = 0; t < length; ++t)
      set.windows.back().push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocab))));
  }
  return set;
}

std::vector<float> dequantize(const QuantizedTensor& tensor) {
  const Weight weight = tensor.view();
  if (const auto* grid = weight.as<IntegerGrid>()) return values_of(*grid, weight);
  if (const auto* rows = weight.as<Int8Rows>()) return values_of(*rows, weight);
  if (const auto* blocks = weight.as<FloatBlocks>()) return values_of(*blocks, weight);
  if (const auto* ggml = weight.as<GgmlBlocks>()) return values_of(*ggml, weight);
  return values_of(weight.get<DenseWeight>(), weight);
}

QuantizedTensor copy_of(const QuantizedTensor& tensor) {
  QuantizedTensor copy(static_cast<const WeightLayout&>(tensor));
  for (auto& [name, part] : copy.parts)
    std::ranges::copy(tensor.parts.at(name).view().bytes, part.bytes().begin());
  return copy;
}

std::vector<uint8_t> grid_codes(const QuantizedTensor& tensor) {
  const auto grid = tensor.view().get<IntegerGrid>();
  return unpack_rows(grid.codes, tensor.in, grid.bits);
}

std::vector<uint8_t> grid_zeros(const QuantizedTensor& tensor) {
  const auto grid = tensor.view().get<IntegerGrid>();
  return unpack_rows(grid.zeros, ceil_div(tensor.in, grid.group_size), grid.bits);
}

std::string digest(const QuantizedTensor& tensor) {
  Hasher hasher;
  for (const auto& [name, part] : tensor.parts) hasher.field(name).bytes(part.view().bytes);
  const Json parameters = tensor.encoding->parameters();
  for (const auto& [name, value] : parameters.items())
    hasher.field(name).field(Json(value.get<double>()).dump());
  return hasher.hex();
}

ModuleResult run_method(const std::string& method, const ModuleTask& task, const Json& settings) {
  const Method& found = find_method(method);
  return found.quantize(task, resolve_settings(found, settings));
}

}  // namespace qwb
