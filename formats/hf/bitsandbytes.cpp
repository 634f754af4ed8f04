// Checkpoints of transformers + bitsandbytes: LLM.int8 rows, NF4 and FP4 blocks, nested statistics.
// Byte-exact page: formats/hf/bitsandbytes.md.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "formats/hf/checkpoint.h"
#include "formats/hf/packed_format.h"
#include "formats/hf/packing.h"
#include "formats/hf/quantization_settings.h"
#include "formats/model_format.h"
#include "lib/codec/float_tables.h"
#include "lib/codec/int8_rows.h"

namespace qwb {
namespace {

constexpr std::string_view kScb = ".SCB";
constexpr std::string_view kState = ".weight.quant_state.bitsandbytes__";
constexpr char kBnbWhere[] = "quantization_config (bitsandbytes)";
constexpr int64_t kLargestSide = int64_t{1} << 31;

[[noreturn]] void damaged_bnb(const std::string& what, const std::string& module) {
  throw Error(ErrorKind::failed, what, "bitsandbytes module '" + module + "'",
              "the checkpoint is damaged");
}

// The kind of 4-bit floats, the block size and the nesting stand in every module's quant_state,
// which loaders believe; thresholds and compute types are about the products.
constexpr SettingRule kBnbRules[] = {
    {"quant_method", "bitsandbytes"},
    {"load_in_4bit", ""},
    {"load_in_8bit", ""},
    {"_load_in_4bit", ""},
    {"_load_in_8bit", ""},
    {"llm_int8_skip_modules", ""},
    {"modules_to_not_convert", ""},
    {"llm_int8_threshold", ""},
    {"llm_int8_has_fp16_weight", ""},
    {"bnb_4bit_compute_dtype", ""},
    {"bnb_4bit_quant_storage", ""},
    {"bnb_4bit_quant_type", "nf4|fp4"},
    {"bnb_4bit_use_double_quant", ""},
    {"bnb_4bit_blocksize", ""},
    {"version", ""},
};

bool bnb_flag(const Json& settings, const std::string& key) {
  return json_bool(settings, key, kBnbWhere, json_bool(settings, "_" + key, kBnbWhere, false));
}

// What the JSON tensor of a 4-bit module says.
struct Bnb4 {
  int64_t out = 0, in = 0;
  FloatBlocks::Table table = FloatBlocks::Table::nf4;
  int64_t block_size = 0;
  bool nested = false;
  int64_t nested_block = 256;
  float nested_offset = 0;
};

Bnb4 parse_state(const Checkpoint& files, const std::string& tensor, const std::string& module) {
  const TensorView text = packed_tensor_of(files, tensor, DType::u8, 1);
  if (text.bytes.size() > 65536) damaged_bnb("an absurdly long quant_state", module);
  const Json json = parse_json(as_text(text.bytes), tensor);
  Bnb4 state;
  const std::string type = json_string(json, "quant_type", tensor);
  if (!tensor.ends_with("bitsandbytes__" + type) || (type != "nf4" && type != "fp4"))
    damaged_bnb("quant_type is '" + type.substr(0, 40) + "'", module);
  state.table = type == "nf4" ? FloatBlocks::Table::nf4 : FloatBlocks::Table::fp4;
  state.block_size = json_int(json, "blocksize", tensor);
  if (!json_has(json, "shape") || !json.at("shape").is_array() || json.at("shape").size() != 2 ||
      !json.at("shape")[0].is_number_unsigned() || !json.at("shape")[1].is_number_unsigned())
    damaged_bnb("shape is not that of a matrix", module);
  state.out = static_cast<int64_t>(json.at("shape")[0].get<uint64_t>());
  state.in = static_cast<int64_t>(json.at("shape")[1].get<uint64_t>());
  const auto is_size = [](int64_t size) { return size >= 1 && size <= kLargestSide; };
  if (!is_size(state.out) || !is_size(state.in) || !is_size(state.block_size))
    damaged_bnb("sizes out of range", module);
  state.nested = json_has(json, "nested_offset");
  if (!state.nested) return state;
  state.nested_block = json_int(json, "nested_blocksize", tensor);
  const double offset = json_number(json, "nested_offset", tensor);
  if (!is_size(state.nested_block) || !(std::abs(offset) < 1e38))
    damaged_bnb("nested statistics out of range", module);
  state.nested_offset = static_cast<float>(offset);
  return state;
}

// bitsandbytes ignores the file's table on the GPU and uses its own: another one would be another
// model.
void check_map(const TensorView& map, const Bnb4& state, const std::string& module) {
  const auto& table = float_table(state.table);
  for (size_t i = 0; i < table.size(); ++i) {
    const float value = load<float>(map.bytes.data() + 4 * i);
    if (!(std::abs(value - table[i]) < 1e-4f))
      throw Error(ErrorKind::unsupported, "quant_map is not the table of its type", module);
  }
}

struct BnbModule {
  WeightLayout layout;
  PartViews parts;
  std::vector<std::string> tensors;
};

BnbModule find_int8(const Checkpoint& files, const std::string& name) {
  BnbModule module;
  const TensorView codes = packed_tensor_of(files, name + ".weight", DType::i8, 2);
  module.layout = int8_rows_layout(codes.shape[0], codes.shape[1]);
  module.parts = {
      {"codes", codes},
      {"absmax", packed_tensor(files, name + ".SCB", DType::f32, Shape{codes.shape[0]})}};
  module.tensors = {name + ".weight", name + ".SCB"};
  if (const auto order = files.find(name + ".weight_format")) {
    if (order->dtype != DType::u8 || order->count() != 1 || order->bytes[0] != std::byte{0}) {
      throw Error(ErrorKind::unsupported, "an int8 layout other than rows", name,
                  "it was made for one kind of GPU by an old bitsandbytes; save it anew with a "
                  "current one");
    }
    module.tensors.push_back(name + ".weight_format");
  }
  return module;
}

BnbModule find_4bit(const Checkpoint& files, const std::string& name,
                    const std::string& state_name) {
  const Bnb4 state = parse_state(files, state_name, name);
  const int64_t bytes = ceil_div(checked_mul(state.out, state.in, name), 2);
  BnbModule module;
  module.layout = float_blocks_layout(
      {state.out, state.in}, {state.table, state.block_size, state.nested, state.nested_block});
  const std::string weight = name + ".weight";
  // Any element type: the bytes count ("quant_storage").
  auto codes = files.find(weight);
  if (!codes || static_cast<int64_t>(codes->bytes.size()) != bytes)
    damaged_bnb(fmt::format("weight must hold {} bytes", bytes), name);
  const auto shape_of = [&](const char* part) { return module.layout.spec(part).shape; };
  module.parts["codes"] = {DType::u8, {bytes}, codes->bytes};
  module.parts["absmax"] = packed_tensor(files, weight + ".absmax",
                                         state.nested ? DType::u8 : DType::f32, shape_of("absmax"));
  check_map(packed_tensor(files, weight + ".quant_map", DType::f32, Shape{16}), state, name);
  module.tensors = {weight, weight + ".absmax", weight + ".quant_map", state_name};
  if (!state.nested) return module;
  FloatBlocks blocks = module.layout.get<FloatBlocks>();
  blocks.nested_offset = state.nested_offset;
  module.layout.set(std::move(blocks));
  module.parts["nested_absmax"] =
      packed_tensor(files, weight + ".nested_absmax", DType::f32, shape_of("nested_absmax"));
  module.parts["nested_map"] =
      packed_tensor(files, weight + ".nested_quant_map", DType::f32, Shape{256});
  module.tensors.push_back(weight + ".nested_absmax");
  module.tensors.push_back(weight + ".nested_quant_map");
  return module;
}

BnbModule find_bnb(const Checkpoint& files, const std::string& name) {
  if (files.find(name + ".SCB")) return find_int8(files, name);
  for (const char* type : {"nf4", "fp4"}) {
    const std::string state = name + std::string(kState) + type;
    if (files.find(state)) return find_4bit(files, name, state);
  }
  damaged_bnb("statistics are missing", name);
}

std::string dtype_text(DType type) {
  if (type == DType::f32) return "float32";
  return type == DType::f16 ? "float16" : "bfloat16";
}

// The longest text of a double.
constexpr size_t kLongestOffset = 24;

std::string table_name(const FloatBlocks& blocks) {
  return blocks.table == FloatBlocks::Table::nf4 ? "nf4" : "fp4";
}

// As Python's json.dumps writes it, in the order of QuantState.as_dict(). While the offset's digits
// are not known the text is filled up with spaces, which JSON ignores.
std::string state_text(const TargetModule& module) {
  const auto& blocks = module.layout.get<FloatBlocks>();
  const std::string head =
      fmt::format(R"({{"quant_type": "{}", "blocksize": {}, "dtype": "{}", "shape": [{}, {}])",
                  table_name(blocks), blocks.block_size, dtype_text(module.dtype),
                  module.layout.out, module.layout.in);
  if (!blocks.nested()) return head + "}";
  std::string digits =
      blocks.nested_offset ? Json(static_cast<double>(*blocks.nested_offset)).dump() : "";
  const size_t padding =
      module.provisional ? kLongestOffset - std::min(digits.size(), kLongestOffset) : 0;
  return head +
         fmt::format(
             R"(, "nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": {}}})",
             blocks.nested_block, digits) +
         std::string(padding, ' ');
}

Tensor bytes_tensor(const std::string& text) {
  Tensor tensor(DType::u8, {static_cast<int64_t>(text.size())});
  std::memcpy(tensor.bytes().data(), text.data(), text.size());
  return tensor;
}

class BnbReading : public PackedReader {
 public:
  std::string name() const override { return "bitsandbytes"; }
  bool matches(const Json& settings) const override {
    const auto flag = [&](const char* key) {
      return json_bool(settings, key, "bitsandbytes settings", false);
    };
    const std::string method = json_string(settings, "quant_method", "bitsandbytes settings", "");
    return method == "bitsandbytes" ||
           (method.empty() && (flag("load_in_4bit") || flag("load_in_8bit")));
  }
  void check(const Json& settings) const override {
    check_settings(settings, kBnbRules, kBnbWhere);
    if (bnb_flag(settings, "load_in_4bit") && bnb_flag(settings, "load_in_8bit"))
      throw Error(ErrorKind::failed, "load_in_4bit and load_in_8bit are both set", kBnbWhere);
  }
  std::optional<bool> quantizes(const Json& settings, const std::string& module) const override {
    for (const char* key : {"llm_int8_skip_modules", "modules_to_not_convert"}) {
      if (json_has(settings, key) && skips_module(settings.at(key), module, kBnbWhere))
        return false;
    }
    return true;
  }
  std::vector<PackedModule> modules(const Checkpoint& files, const Json& settings,
                                    const Context& /*context*/) const override {
    const bool int8 = bnb_flag(settings, "load_in_8bit"),
               float4 = bnb_flag(settings, "load_in_4bit");
    std::vector<PackedModule> result;
    for (const std::string& tensor : files.names()) {
      const size_t state = tensor.find(kState);
      std::string module_name;
      if (tensor.ends_with(kScb)) module_name = tensor.substr(0, tensor.size() - kScb.size());
      if (state != std::string::npos) module_name = tensor.substr(0, state);
      if (module_name.empty()) continue;
      if (!result.empty() && result.back().name == module_name)
        damaged_bnb("has two quant_states", module_name);
      BnbModule found = find_bnb(files, module_name);
      const bool is_int8 = found.layout.as<Int8Rows>() != nullptr;
      if (is_int8 ? float4 : int8) {
        damaged_bnb(fmt::format("config.json says {} bits, and the tensors have {}", int8 ? 8 : 4,
                                is_int8 ? 8 : 4),
                    module_name);
      }
      result.push_back({module_name, std::move(found.layout), std::move(found.tensors)});
    }
    return result;
  }
  LoadedWeight read(const Checkpoint& files, const Json& /*settings*/, const PackedModule& module,
                    const Context& /*context*/) const override {
    const BnbModule found = find_bnb(files, module.name);
    return {attach(found.layout, found.parts, module.name), {}};
  }
};

class BnbWriting : public PackedWriter {
 public:
  Fit fit(const TargetModule& module, const WeightReader& read) const override;
  std::vector<PartSpec> layout(const TargetModule& module) const override;
  PackedTensors write(const TargetModule& module, const Weight& weight, const Json& settings,
                      const Context& context) const override;
  Json quantization_config(const std::vector<TargetModule>& modules,
                           const std::vector<TargetModule>& plain) const override;
};

Fit BnbWriting::fit(const TargetModule& module, const WeightReader& /*read*/) const {
  const WeightLayout& form = module.layout;
  if (module.role == TargetModule::Role::embedding)
    return Fit::no("is the token embedding, which bitsandbytes leaves unquantized");
  if (form.as<Int8Rows>() != nullptr) return {};
  const auto* blocks = form.as<FloatBlocks>();
  if (blocks == nullptr)
    return Fit::no("is stored as " + form.codec() +
                   "; bitsandbytes has int8 rows and 4-bit float blocks");
  if (form.orientation != Orientation::out_in)
    return Fit::no("has blocks that run over [in, out]; those of bitsandbytes run over [out, in]");
  const int64_t block = blocks->block_size;
  if (block < 32 || block > 4096 || !std::has_single_bit(static_cast<uint64_t>(block)))
    return Fit::no(
        fmt::format("has blocks of {}; bitsandbytes has powers of two from 32 to 4096", block));
  if (blocks->nested() && blocks->nested_block != 256)
    return Fit::no("has nested blocks other than 256");
  return {};
}

std::vector<PartSpec> BnbWriting::layout(const TargetModule& module) const {
  const WeightLayout& form = module.layout;
  const std::string weight = module.name + ".weight";
  if (form.as<Int8Rows>() != nullptr) {
    return {{weight, DType::i8, {form.out, form.in}},
            {module.name + ".SCB", DType::f32, {form.out}},
            {module.name + ".weight_format", DType::u8, {}}};
  }
  const auto& blocks = form.get<FloatBlocks>();
  std::vector<PartSpec> parts = {{weight, DType::u8, {blocks.codes.shape.at(0), 1}},
                                 {weight + ".absmax", blocks.absmax.dtype, blocks.absmax.shape},
                                 {weight + ".quant_map", DType::f32, {16}}};
  if (blocks.nested()) {
    parts.push_back({weight + ".nested_absmax", DType::f32, blocks.nested_absmax.shape});
    parts.push_back({weight + ".nested_quant_map", DType::f32, {256}});
  }
  const auto length = static_cast<int64_t>(state_text(module).size());
  parts.push_back({module.name + std::string(kState) + table_name(blocks), DType::u8, {length}});
  return parts;
}

// bitsandbytes multiplies codes by absmax before it divides by 127.
void require_products_finite(const TensorView& absmax, const std::string& module) {
  for (const float value : read_floats(absmax, module)) {
    if (value > std::numeric_limits<float>::max() / 127)
      throw Error(ErrorKind::failed,
                  fmt::format("an absmax of {} times 127 overflows f32 in bitsandbytes", value),
                  module, "leave the module as it is (--exclude) or keep another format");
  }
}

PackedTensors BnbWriting::write(const TargetModule& module, const Weight& weight,
                                const Json& /*settings*/, const Context& /*context*/) const {
  const std::string name = module.name + ".weight";
  PackedTensors tensors;
  if (const auto* rows = weight.as<Int8Rows>()) {
    require_products_finite(rows->absmax, module.name);
    tensors.views[name] = rows->codes;
    tensors.views[module.name + ".SCB"] = rows->absmax;
    Tensor order(DType::u8, {});
    order.bytes()[0] = std::byte{0};
    tensors.add(module.name + ".weight_format", std::move(order));
    return tensors;
  }
  const auto& blocks = weight.get<FloatBlocks>();
  tensors.views[name] = blocks.codes;
  tensors.views[name + ".absmax"] = blocks.absmax;
  Tensor map(DType::f32, {16});
  const auto& table = float_table(blocks.table);
  for (size_t i = 0; i < table.size(); ++i) map.data<float>()[i] = table[i] == 0 ? 0.0f : table[i];
  tensors.add(name + ".quant_map", std::move(map));
  if (blocks.nested()) {
    tensors.views[name + ".nested_absmax"] = blocks.nested_absmax;
    tensors.views[name + ".nested_quant_map"] = blocks.nested_map;
  }
  tensors.add(module.name + std::string(kState) + table_name(blocks),
              bytes_tensor(state_text(module)));
  return tensors;
}

// The kind of a module: 8 for int8, else table and nesting.
std::string bnb_kind(const WeightLayout& form) {
  if (form.as<Int8Rows>() != nullptr) return "int8";
  const auto& blocks = form.get<FloatBlocks>();
  return table_name(blocks) + (blocks.nested() ? ", nested" : "");
}

Json BnbWriting::quantization_config(const std::vector<TargetModule>& modules,
                                     const std::vector<TargetModule>& plain) const {
  for (const TargetModule& module : modules) {
    if (bnb_kind(module.layout) == bnb_kind(modules.front().layout)) continue;
    throw Error(ErrorKind::unsupported,
                fmt::format("bitsandbytes has one kind for all modules, and {} is {}, {} is {}",
                            modules.front().name, bnb_kind(modules.front().layout), module.name,
                            bnb_kind(module.layout)));
  }
  const std::string kind = modules.empty() ? "nf4" : bnb_kind(modules.front().layout);
  const bool int8 = kind == "int8";
  Json skipped = Json::array();
  for (const TargetModule& module : plain) skipped.push_back(module.name);
  return {{"_load_in_4bit", !int8},
          {"_load_in_8bit", int8},
          {"bnb_4bit_compute_dtype",
           int8 || modules.empty() ? "float32" : dtype_text(modules.front().dtype)},
          {"bnb_4bit_quant_storage", "uint8"},
          {"bnb_4bit_quant_type", kind.substr(0, 3) == "nf4" ? "nf4" : "fp4"},
          {"bnb_4bit_use_double_quant", kind.ends_with("nested")},
          {"llm_int8_enable_fp32_cpu_offload", false},
          {"llm_int8_has_fp16_weight", false},
          {"llm_int8_skip_modules", skipped},
          {"llm_int8_threshold", 6.0},
          {"load_in_4bit", !int8},
          {"load_in_8bit", int8},
          {"quant_method", "bitsandbytes"}};
}

}  // namespace

std::vector<ModelFormat> bitsandbytes_formats() {
  return {packed_format("bitsandbytes", "LLM.int8 rows, NF4 and FP4 blocks, nested or not",
                        std::make_shared<BnbReading>(), std::make_shared<BnbWriting>())};
}

}  // namespace qwb
