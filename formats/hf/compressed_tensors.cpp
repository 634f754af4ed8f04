// Checkpoints of compressed-tensors (llm-compressor, vLLM): pack-quantized, int-quantized, naive
// int8, and float grids (compressed_floats.h). Byte-exact page: formats/hf/compressed_tensors.md.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "formats/hf/compressed_floats.h"
#include "formats/hf/compressed_reader.h"
#include "formats/hf/packing.h"
#include "formats/model_format.h"
#include "lib/base/parallel.h"
#include "lib/codec/integer_grid.h"

namespace qwb {
namespace {

// Codes packed into words (2 to 8 bits), or one signed byte each.
enum class CompressedLayout { packed, bytes };

class CompressedReading : public PackedReader {
 public:
  std::string name() const override { return "compressed-tensors"; }
  bool matches(const Json& settings) const override {
    return json_string(settings, "quant_method", "settings", "") == "compressed-tensors";
  }
  void check(const Json& settings) const override { compressed_settings(settings); }
  std::optional<bool> quantizes(const Json& settings, const std::string& module) const override {
    return !compressed_settings(settings).ignores(module);
  }
  std::vector<std::string> notes(const Json& settings) const override {
    if (!compressed_settings(settings).quantizes_activations) return {};
    return {
        "config.json quantizes activations too (input_activations): here the weights alone are "
        "quantized"};
  }
  std::vector<PackedModule> modules(const Checkpoint& files, const Json& settings,
                                    const Context& context) const override {
    const CompressedSettings known = compressed_settings(settings);
    std::vector<PackedModule> result;
    for (const std::string& tensor : files.names()) {
      if (!tensor.ends_with(kCompressedScale)) continue;
      const std::string module_name = tensor.substr(0, tensor.size() - kCompressedScale.size());
      const CompressedScheme& scheme = known.scheme(module_name);
      result.push_back(scheme.floats
                           ? find_compressed_floats(files, scheme, module_name).module()
                           : CompressedReader(files, known, module_name, context).module());
    }
    return result;
  }
  LoadedWeight read(const Checkpoint& files, const Json& settings, const PackedModule& module,
                    const Context& context) const override {
    const CompressedSettings known = compressed_settings(settings);
    const CompressedScheme& scheme = known.scheme(module.name);
    if (scheme.floats) return find_compressed_floats(files, scheme, module.name).read(context);
    return CompressedReader(files, known, module.name, context).read();
  }
};

class CompressedWriting : public PackedWriter {
 public:
  explicit CompressedWriting(CompressedLayout layout) : layout_(layout) {}
  bool packed() const { return layout_ == CompressedLayout::packed; }
  Fit fit(const TargetModule& module, const WeightReader& read) const override;
  std::vector<PartSpec> layout(const TargetModule& module) const override;
  PackedTensors write(const TargetModule& module, const Weight& weight, const Json& settings,
                      const Context& context) const override;
  Json quantization_config(const std::vector<TargetModule>& modules,
                           const std::vector<TargetModule>& plain) const override;

 private:
  CompressedLayout layout_;
};

Fit CompressedWriting::fit(const TargetModule& module, const WeightReader& /*read*/) const {
  const WeightLayout& form = module.layout;
  const auto* grid = form.as<IntegerGrid>();
  const bool floats = packed() && on_float_grid(form);
  if (grid == nullptr && !floats)
    return Fit::no("is stored as " + form.codec() + ", not on an integer grid");
  if (module.role == TargetModule::Role::embedding)
    return Fit::no("is the token embedding, which stays unquantized here");
  if (module.plain == Orientation::in_out)
    return Fit::no("is a Conv1D, and compressed-tensors loads no module but Linear and Embedding");
  if (floats) return fit_compressed_floats(module);
  if (!grid->in_order())
    return Fit::no(
        "has groups that are not runs of columns, which compressed-tensors 0.20 no longer loads");
  const int64_t group = grid->group_size;
  if (form.in % group != 0)
    return Fit::no(
        fmt::format("has groups of {}, which do not divide its {} inputs", group, form.in));
  return {};
}

std::vector<PartSpec> CompressedWriting::layout(const TargetModule& module) const {
  const WeightLayout& form = module.layout;
  if (on_float_grid(form)) return compressed_float_parts(module);
  const int bits = form.code_bits();
  const PartSpec scales = form.spec("scales");
  const int64_t groups = scales.shape.at(1);
  const std::string weight = module.name + ".weight";
  std::vector<PartSpec> parts = {{weight + "_scale", scales.dtype, scales.shape}};
  if (packed()) {
    parts.push_back({weight + "_packed", DType::i32, {form.out, ceil_div(form.in * bits, 32)}});
    parts.push_back({weight + "_shape", DType::i64, {2}});
    if (form.has("zeros"))
      parts.push_back(
          {weight + "_zero_point", DType::i32, {ceil_div(form.out * bits, 32), groups}});
  } else {
    parts.push_back({weight, DType::i8, {form.out, form.in}});
    if (form.has("zeros")) parts.push_back({weight + "_zero_point", DType::i8, {form.out, groups}});
  }
  return parts;
}

// Unsigned codes of `bits` bits to signed bytes.
Tensor signed_bytes(const TensorView& rows, int64_t columns, int bits, const Context& context) {
  Tensor bytes(DType::i8, {rows.shape.at(0), columns});
  const int64_t stride = rows.shape.at(1);
  parallel_ranges(context, rows.shape[0], 16, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      auto* line = bytes.data<uint8_t>() + o * columns;
      unpack_codes(rows.bytes.data() + o * stride, columns, bits, line);
      for (int64_t i = 0; i < columns; ++i)
        line[i] = static_cast<uint8_t>(line[i] - (1 << (bits - 1)));
    }
  });
  return bytes;
}

PackedTensors CompressedWriting::write(const TargetModule& module, const Weight& weight,
                                       const Json& /*settings*/, const Context& context) const {
  if (on_float_grid(weight)) return compressed_float_tensors(module, weight);
  const auto& grid = weight.get<IntegerGrid>();
  const std::string name = module.name + ".weight";
  PackedTensors tensors;
  tensors.views[name + "_scale"] = grid.scales;
  if (!packed()) {
    tensors.add(name, signed_bytes(grid.codes, weight.in, grid.bits, context));
    if (!grid.symmetric())
      tensors.add(name + "_zero_point",
                  signed_bytes(grid.zeros, grid.scales.shape[1], grid.bits, context));
    return tensors;
  }
  const int64_t row = grid.codes.shape[1], words = ceil_div(row, 4);
  if (row == 4 * words) {
    tensors.views[name + "_packed"] = grid.codes;
  } else {
    Tensor padded(DType::i32, {weight.out, words});
    std::byte* to = padded.bytes().data();
    std::fill(to, to + padded.bytes().size(), std::byte{0});
    for (int64_t o = 0; o < weight.out; ++o)
      std::memcpy(to + o * 4 * words, grid.codes.bytes.data() + o * row, static_cast<size_t>(row));
    tensors.add(name + "_packed", std::move(padded));
  }
  Tensor shape(DType::i64, {2});
  shape.data<int64_t>()[0] = weight.out;
  shape.data<int64_t>()[1] = weight.in;
  tensors.add(name + "_shape", std::move(shape));
  if (!grid.symmetric()) {
    const Tensor rows = pack_words(grid_zeros(grid, weight.out, context).transpose(context),
                                   grid.bits, context);  // [groups, words]
    tensors.add(name + "_zero_point", transposed(rows.view(), context));
  }
  return tensors;
}

// One config group each: integers by bits, group size (-1: the row) and symmetry, then floats by
// the text of their settings.
using CompressedKind = std::tuple<std::string, int, int64_t, bool>;

CompressedKind compressed_kind(const WeightLayout& form) {
  if (on_float_grid(form)) return {compressed_float_weights(form).dump(), 0, 0, true};
  const int64_t group = form.get<IntegerGrid>().group_size;
  return {"", form.code_bits(), group == form.in ? -1 : group, !form.has("zeros")};
}

Json integer_weights(const CompressedKind& kind) {
  const auto& [floats, bits, group, symmetric] = kind;
  return {{"num_bits", bits},
          {"type", "int"},
          {"symmetric", symmetric},
          {"strategy", group == -1 ? "channel" : "group"},
          {"group_size", group == -1 ? Json(nullptr) : Json(group)},
          {"block_structure", nullptr},
          {"dynamic", false},
          {"actorder", nullptr},
          {"observer", "minmax"},
          {"observer_kwargs", Json::object()}};
}

Json CompressedWriting::quantization_config(const std::vector<TargetModule>& modules,
                                            const std::vector<TargetModule>& plain) const {
  struct Group {
    Json names = Json::array(), weights;
    std::string format;
  };
  std::map<CompressedKind, Group> targets;
  std::set<std::string> formats;
  for (const TargetModule& module : modules) {
    const bool floats = on_float_grid(module.layout);
    const CompressedKind kind = compressed_kind(module.layout);
    Group& group = targets[kind];
    group.names.push_back(module.name);
    group.weights = floats ? compressed_float_weights(module.layout) : integer_weights(kind);
    group.format = floats     ? compressed_float_format(module.layout)
                   : packed() ? "pack-quantized"
                              : "int-quantized";
    formats.insert(group.format);
  }
  Json groups = Json::object();
  for (const auto& [kind, group] : targets) {
    groups["group_" + std::to_string(groups.size())] = {
        {"targets", targets.size() == 1 ? Json::array({"Linear"}) : group.names},
        {"weights", group.weights},
        {"input_activations", nullptr},
        {"output_activations", nullptr},
        {"format", group.format}};
  }
  const std::string format = formats.size() == 1 ? *formats.begin() : "mixed-precision";
  Json ignore = Json::array();
  for (const TargetModule& module : plain) ignore.push_back(module.name);
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"quantization_status", "compressed"},
          {"global_compression_ratio", nullptr},
          {"kv_cache_scheme", nullptr},
          {"ignore", ignore},
          {"config_groups", groups}};
}

}  // namespace

std::vector<ModelFormat> compressed_tensors_formats() {
  return {packed_format("compressed-tensors",
                        "compressed-tensors, pack-quantized: 2 to 8 bits; FP8, NVFP4 and MXFP4",
                        std::make_shared<CompressedReading>(),
                        std::make_shared<CompressedWriting>(CompressedLayout::packed)),
          packed_format("compressed-tensors-int",
                        "compressed-tensors, int-quantized: a signed byte for each code", nullptr,
                        std::make_shared<CompressedWriting>(CompressedLayout::bytes))};
}

}  // namespace qwb
