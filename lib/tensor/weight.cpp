#include "lib/tensor/weight.h"

#include <algorithm>

namespace qwb {
namespace {

[[noreturn]] void damaged(const std::string& what, const std::string& where) {
  throw Error(ErrorKind::failed, what, where,
              "the artifact is damaged or was written by something else");
}

void expect(const TensorView& view, const PartSpec& spec, const std::string& where) {
  if (view.dtype != spec.dtype || view.shape != spec.shape) {
    damaged(spec.name + " is " + std::string(dtype_name(view.dtype)) + " " +
                shape_text(view.shape) + ", expected " + std::string(dtype_name(spec.dtype)) + " " +
                shape_text(spec.shape),
            where);
  }
  if (static_cast<int64_t>(view.bytes.size()) !=
      checked_mul(element_count(spec.shape, where), dtype_size(spec.dtype), where)) {
    damaged(
        spec.name + " has " + std::to_string(view.bytes.size()) + " bytes, not what its shape says",
        where);
  }
}

void check(const DenseWeight& dense, const Weight& weight, const std::string& where) {
  if (!dtype_is_float(dense.values.dtype)) {
    throw Error(ErrorKind::unsupported,
                "weight is " + std::string(dtype_name(dense.values.dtype)) + ", not a float type",
                where);
  }
  const bool straight = weight.orientation == Orientation::out_in;
  expect(dense.values,
         {"weight", dense.values.dtype,
          straight ? Shape{weight.out, weight.in} : Shape{weight.in, weight.out}},
         where);
}

void check(const IntegerGrid& grid, const Weight& weight, const std::string& where) {
  if (grid.bits < 2 || grid.bits > 8)
    damaged("bits must be 2 to 8, not " + std::to_string(grid.bits), where);
  if (grid.group_size < 1 || grid.group_size > weight.in)
    damaged("group size " + std::to_string(grid.group_size) + " is not within the row", where);
  if (weight.orientation != Orientation::out_in)
    damaged("an integer grid is stored [out, in]", where);
  const DType scale = grid.scales.dtype;
  if (scale != DType::f16 && scale != DType::bf16 && scale != DType::f32)
    damaged("scales must be F16, BF16 or F32", where);
  const auto specs = integer_grid_parts(weight.out, weight.in, grid.bits, grid.group_size,
                                        grid.zeros.empty(), scale, true);
  expect(grid.codes, specs[0], where);
  expect(grid.scales, specs[1], where);
  if (!grid.zeros.empty()) expect(grid.zeros, specs[2], where);
  if (grid.group_index.empty()) return;
  expect(grid.group_index, specs.back(), where);
  const int64_t groups = grid.scales.shape[1];
  for (int64_t i = 0; i < weight.in; ++i) {
    const int64_t group = grid.group(i);
    if (group < 0 || group >= groups) {
      damaged("column " + std::to_string(i) + " is in group " + std::to_string(group) +
                  ", and there are " + std::to_string(groups),
              where);
    }
  }
}

void check(const Int8Rows& rows, const Weight& weight, const std::string& where) {
  if (weight.orientation != Orientation::out_in) damaged("int8 rows are stored [out, in]", where);
  const auto specs = int8_rows_parts(weight.out, weight.in);
  expect(rows.codes, specs[0], where);
  expect(rows.absmax, specs[1], where);
}

void check(const FloatBlocks& blocks, const Weight& weight, const std::string& where) {
  if (blocks.block_size < 1 || blocks.nested_block < 1)
    damaged("block sizes must be positive", where);
  const bool nested = !blocks.nested_absmax.empty();
  const auto specs =
      float_blocks_parts(weight.out, weight.in, blocks.block_size, nested, blocks.nested_block);
  expect(blocks.codes, specs[0], where);
  expect(blocks.absmax, specs[1], where);
  if (nested) {
    expect(blocks.nested_absmax, specs[2], where);
    expect(blocks.nested_map, specs[3], where);
  }
}

void check(const GgmlBlocks& ggml, const Weight& weight, const std::string& where) {
  if (weight.orientation != Orientation::out_in) damaged("ggml blocks are stored [out, in]", where);
  const GgmlTypeInfo& info = ggml_info(ggml.type);
  if (!ggml_is_quantized(ggml.type))
    damaged(std::string(info.name) + " is not stored in blocks", where);
  if (weight.in % info.block != 0)
    damaged("rows of " + std::to_string(weight.in) + " are not whole blocks of " +
                std::string(info.name),
            where);
  if (ggml.head_rows < 0 || ggml.head_rows % 2 != 0 ||
      (ggml.head_rows > 0 && weight.out % ggml.head_rows != 0))
    damaged("heads of " + std::to_string(ggml.head_rows) + " rows do not fit " +
                std::to_string(weight.out),
            where);
  expect(ggml.blocks, ggml_blocks_parts(weight.out, weight.in, ggml.type)[0], where);
}

int64_t size_of(const TensorView& view) {
  return static_cast<int64_t>(view.bytes.size());
}

}  // namespace

int64_t Weight::bytes() const {
  struct Count {
    int64_t operator()(const DenseWeight& w) const { return size_of(w.values); }
    int64_t operator()(const IntegerGrid& w) const {
      return size_of(w.codes) + size_of(w.scales) + size_of(w.zeros) + size_of(w.group_index);
    }
    int64_t operator()(const Int8Rows& w) const { return size_of(w.codes) + size_of(w.absmax); }
    int64_t operator()(const FloatBlocks& w) const {
      return size_of(w.codes) + size_of(w.absmax) + size_of(w.nested_absmax) +
             size_of(w.nested_map);
    }
    int64_t operator()(const GgmlBlocks& w) const { return size_of(w.blocks); }
  };
  return std::visit(Count{}, storage);
}

int Weight::code_bits() const {
  return weight_form(*this).code_bits();
}

std::string Weight::codec() const {
  static constexpr const char* kNames[] = {"dense", "integer-grid", "int8-rows", "float-blocks",
                                           "ggml-blocks"};
  return kNames[storage.index()];
}

void check_weight(const Weight& weight, const std::string& where) {
  if (weight.out < 1 || weight.in < 1)
    damaged("a weight needs at least one row and one column", where);
  std::visit([&](const auto& storage) { check(storage, weight, where); }, weight.storage);
}

std::vector<PartSpec> integer_grid_parts(int64_t out, int64_t in, int bits, int64_t group_size,
                                         bool symmetric, DType scale_dtype, bool group_index) {
  const int64_t groups = ceil_div(in, group_size);
  std::vector<PartSpec> specs = {{"codes", DType::u8, {out, packed_bytes(in, bits)}},
                                 {"scales", scale_dtype, {out, groups}}};
  if (!symmetric) specs.push_back({"zeros", DType::u8, {out, packed_bytes(groups, bits)}});
  if (group_index) specs.push_back({"group_index", DType::i32, {in}});
  return specs;
}

std::vector<PartSpec> int8_rows_parts(int64_t out, int64_t in) {
  return {{"codes", DType::i8, {out, in}}, {"absmax", DType::f32, {out}}};
}

std::vector<PartSpec> float_blocks_parts(int64_t out, int64_t in, int64_t block_size,
                                         bool double_quantization, int64_t nested_block) {
  const int64_t count = checked_mul(out, in, "weight");
  const int64_t blocks = ceil_div(count, block_size);
  std::vector<PartSpec> specs = {
      {"codes", DType::u8, {ceil_div(count, 2)}},
      {"absmax", double_quantization ? DType::u8 : DType::f32, {blocks}}};
  if (double_quantization) {
    specs.push_back({"nested_absmax", DType::f32, {ceil_div(blocks, nested_block)}});
    specs.push_back({"nested_map", DType::f32, {256}});
  }
  return specs;
}

std::vector<PartSpec> ggml_blocks_parts(int64_t out, int64_t in, GgmlType type) {
  return {{"blocks", DType::u8, {out, ggml_row_bytes(ggml_info(type), in)}}};
}

Weight weight_from_parts(int64_t out, int64_t in, Orientation orientation, const std::string& codec,
                         const std::map<std::string, double>& parameters,
                         const std::map<std::string, TensorView>& parts, const std::string& where) {
  const auto number = [&](const std::string& name) {
    const auto it = parameters.find(name);
    if (it == parameters.end()) damaged("parameter '" + name + "' is missing", where);
    return it->second;
  };
  const auto integer = [&](const std::string& name) {
    const double value = number(name);
    if (!(value >= 0 && value <= 0x1p52) ||
        value != static_cast<double>(static_cast<int64_t>(value))) {
      damaged("parameter '" + name + "' is not a size", where);
    }
    return static_cast<int64_t>(value);
  };
  const auto part = [&](const std::string& name) {
    const auto it = parts.find(name);
    if (it == parts.end()) damaged("part '" + name + "' is missing", where);
    return it->second;
  };
  const auto optional_part = [&](const std::string& name) {
    return parts.contains(name) ? part(name) : TensorView{};
  };

  Weight weight{out, in, orientation, {}};
  if (codec == "integer-grid") {
    const int64_t bits = std::min<int64_t>(integer("bits"), 99);
    weight.storage =
        IntegerGrid{static_cast<int>(bits), integer("group_size"),  part("codes"),
                    part("scales"),         optional_part("zeros"), optional_part("group_index")};
  } else if (codec == "int8-rows") {
    weight.storage = Int8Rows{part("codes"), part("absmax")};
  } else if (codec == "float-blocks") {
    FloatBlocks blocks;
    const int64_t table = integer("table");
    if (table > 1) damaged("unknown 4-bit table", where);
    blocks.table = table == 0 ? FloatBlocks::Table::nf4 : FloatBlocks::Table::fp4;
    blocks.block_size = integer("block_size");
    blocks.codes = part("codes");
    blocks.absmax = part("absmax");
    if (parts.contains("nested_absmax")) {
      blocks.nested_absmax = part("nested_absmax");
      blocks.nested_map = part("nested_map");
      blocks.nested_block = integer("nested_block");
      blocks.nested_offset = static_cast<float>(number("nested_offset"));
    }
    weight.storage = blocks;
  } else if (codec == "ggml-blocks") {
    const int64_t id = integer("type");
    const auto type = id < 256 ? ggml_type_from_number(static_cast<uint32_t>(id)) : std::nullopt;
    if (!type) damaged("unknown ggml type", where);
    weight.storage = GgmlBlocks{*type, part("blocks"),
                                parameters.contains("head_rows") ? integer("head_rows") : 0};
  } else if (codec == "dense") {
    weight.storage = DenseWeight{part("weight")};
  } else {
    throw Error(ErrorKind::unsupported, "unknown codec '" + codec + "'", where,
                "a newer qwb may have written it");
  }
  check_weight(weight, where);
  return weight;
}

Weight QuantizedTensor::view() const {
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : parts) views.emplace(name, tensor.view());
  return weight_from_parts(out, in, orientation, codec, parameters, views, "quantized tensor");
}

std::map<std::string, TensorView> weight_parts(const Weight& weight) {
  struct Parts {
    std::map<std::string, TensorView> operator()(const DenseWeight& w) const {
      return {{"weight", w.values}};
    }
    std::map<std::string, TensorView> operator()(const IntegerGrid& w) const {
      return {{"codes", w.codes},
              {"scales", w.scales},
              {"zeros", w.zeros},
              {"group_index", w.group_index}};
    }
    std::map<std::string, TensorView> operator()(const Int8Rows& w) const {
      return {{"codes", w.codes}, {"absmax", w.absmax}};
    }
    std::map<std::string, TensorView> operator()(const FloatBlocks& w) const {
      return {{"codes", w.codes},
              {"absmax", w.absmax},
              {"nested_absmax", w.nested_absmax},
              {"nested_map", w.nested_map}};
    }
    std::map<std::string, TensorView> operator()(const GgmlBlocks& w) const {
      return {{"blocks", w.blocks}};
    }
  };
  auto parts = std::visit(Parts{}, weight.storage);
  std::erase_if(parts, [](const auto& part) { return part.second.empty(); });
  return parts;
}

WeightForm weight_form(const Weight& weight) {
  WeightForm form{weight.out, weight.in, weight.orientation, "dense", {}, {}};
  if (const auto* grid = std::get_if<IntegerGrid>(&weight.storage)) {
    form.codec = "integer-grid";
    form.parameters = {{"bits", grid->bits}, {"group_size", static_cast<double>(grid->group_size)}};
    form.parts =
        integer_grid_parts(weight.out, weight.in, grid->bits, grid->group_size, grid->zeros.empty(),
                           grid->scales.dtype, !grid->group_index.empty());
  } else if (std::holds_alternative<Int8Rows>(weight.storage)) {
    form.codec = "int8-rows";
    form.parts = int8_rows_parts(weight.out, weight.in);
  } else if (const auto* blocks = std::get_if<FloatBlocks>(&weight.storage)) {
    const bool nested = !blocks->nested_absmax.empty();
    form.codec = "float-blocks";
    form.parameters = {{"table", blocks->table == FloatBlocks::Table::nf4 ? 0 : 1},
                       {"block_size", static_cast<double>(blocks->block_size)}};
    if (nested) {
      form.parameters["nested_block"] = static_cast<double>(blocks->nested_block);
      form.parameters["nested_offset"] = blocks->nested_offset;
    }
    form.parts =
        float_blocks_parts(weight.out, weight.in, blocks->block_size, nested, blocks->nested_block);
  } else if (const auto* ggml = std::get_if<GgmlBlocks>(&weight.storage)) {
    form.codec = "ggml-blocks";
    form.parameters = {{"type", static_cast<double>(ggml->type)},
                       {"head_rows", static_cast<double>(ggml->head_rows)}};
    form.parts = ggml_blocks_parts(weight.out, weight.in, ggml->type);
  } else {
    const TensorView& values = std::get<DenseWeight>(weight.storage).values;
    form.parts = {{"weight", values.dtype, values.shape}};
  }
  return form;
}

bool WeightForm::has(const std::string& part) const {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const PartSpec& spec) { return spec.name == part; });
}

const PartSpec& WeightForm::part(const std::string& name) const {
  for (const PartSpec& spec : parts) {
    if (spec.name == name) return spec;
  }
  throw Error(ErrorKind::usage, "a weight of codec " + codec + " has no part '" + name + "'");
}

int64_t WeightForm::bytes() const {
  int64_t total = 0;
  for (const PartSpec& spec : parts)
    total += checked_mul(element_count(spec.shape, spec.name), dtype_size(spec.dtype), spec.name);
  return total;
}

int WeightForm::code_bits() const {
  if (codec == "integer-grid") return static_cast<int>(parameters.at("bits"));
  if (codec == "int8-rows") return 8;
  if (codec == "float-blocks") return 4;
  if (codec == "ggml-blocks") {
    const auto type = ggml_type_from_number(static_cast<uint32_t>(parameters.at("type")));
    return ggml_info(type.value()).name[1] - '0';  // "Q4_K"
  }
  return static_cast<int>(8 * dtype_size(part("weight").dtype));
}

void pack_codes(const uint8_t* codes, int64_t count, int bits, std::byte* packed) {
  int64_t i = 0;
  if (bits == 8) {
    std::copy_n(reinterpret_cast<const std::byte*>(codes), count, packed);
    return;
  }
  if (bits == 4) {
    for (; i + 2 <= count; i += 2) *packed++ = static_cast<std::byte>(codes[i] | codes[i + 1] << 4);
  }
  for (; i + 8 <= count; i += 8, packed += bits) {  // eight codes fill `bits` bytes
    uint64_t word = 0;
    for (int k = 0; k < 8; ++k) word |= static_cast<uint64_t>(codes[i + k]) << (k * bits);
    for (int b = 0; b < bits; ++b) packed[b] = static_cast<std::byte>(word >> (8 * b) & 0xffu);
  }
  uint32_t buffer = 0;
  int held = 0;
  for (; i < count; ++i) {
    buffer |= static_cast<uint32_t>(codes[i]) << held;
    for (held += bits; held >= 8; held -= 8, buffer >>= 8)
      *packed++ = static_cast<std::byte>(buffer & 0xffu);
  }
  if (held > 0) *packed = static_cast<std::byte>(buffer & 0xffu);
}

void unpack_codes(const std::byte* packed, int64_t count, int bits, uint8_t* codes) {
  if (bits == 8) {
    std::copy_n(reinterpret_cast<const uint8_t*>(packed), count, codes);
    return;
  }
  if (bits == 4) {
    for (; count >= 2; count -= 2, codes += 2) {
      const auto pair = static_cast<uint8_t>(*packed++);
      codes[0] = pair & 15;
      codes[1] = static_cast<uint8_t>(pair >> 4);
    }
  }
  const uint32_t mask = (1u << bits) - 1;
  for (; count >= 8; count -= 8, packed += bits, codes += 8) {
    uint64_t word = 0;
    for (int b = 0; b < bits; ++b) word |= static_cast<uint64_t>(packed[b]) << (8 * b);
    for (int k = 0; k < 8; ++k) codes[k] = static_cast<uint8_t>(word >> (k * bits) & mask);
  }
  uint32_t buffer = 0;
  int held = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (held < bits) {
      buffer |= static_cast<uint32_t>(*packed++) << held;
      held += 8;
    }
    codes[i] = static_cast<uint8_t>(buffer & mask);
    buffer >>= bits;
    held -= bits;
  }
}

}  // namespace qwb
