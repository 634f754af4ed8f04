#include "formats/hf/compressed_floats.h"

#include <fmt/format.h>

#include "lib/codec/fp4_groups.h"
#include "lib/codec/fp8_blocks.h"

namespace qwb {
namespace {

constexpr char kGlobalScale[] = ".weight_global_scale";

std::string fp8_strategy(const WeightLayout& layout) {
  const auto& blocks = layout.get<Fp8Blocks>();
  const bool rows_whole = blocks.block_columns == layout.in;
  if (rows_whole && blocks.block_rows == layout.out) return "tensor";
  if (rows_whole && blocks.block_rows == 1) return "channel";
  return blocks.block_rows == 1 ? "group" : "block";
}

}  // namespace

void check_float_scheme(const CompressedScheme& scheme, const std::string& where) {
  const bool fp8 = scheme.bits == 8 && scheme.strategy != "tensor_group";
  const bool nvfp4 =
      scheme.bits == 4 && scheme.strategy == "tensor_group" && scheme.group_size == 16;
  const bool mxfp4 = scheme.bits == 4 && scheme.group_size == 32 &&
                     (scheme.strategy == "group" || scheme.strategy.empty());
  if (!fp8 && !nvfp4 && !mxfp4) {
    throw Error(ErrorKind::unsupported,
                fmt::format("floats of {} bits with the strategy '{}' and groups of {}",
                            scheme.bits, scheme.strategy, scheme.group_size),
                where, "this build reads FP8, NVFP4 (tensor_group, 16) and MXFP4 (group, 32)");
  }
  if (!scheme.symmetric)
    throw Error(ErrorKind::unsupported, "floats with zero points", where,
                "save the model with a symmetric scheme");
}

FloatModule find_compressed_floats(const Checkpoint& files, const CompressedScheme& scheme,
                                   const std::string& module) {
  if (scheme.bits == 4) {
    const bool nvfp4 = scheme.group_size == 16;
    return find_fp4(files, module, {".weight_packed", nvfp4 ? kGlobalScale : nullptr, nvfp4});
  }
  const bool grouped =
      scheme.strategy == "group" || (scheme.strategy.empty() && scheme.group_size > 0);
  const bool blocked = !grouped && (scheme.strategy == "block" || scheme.strategy.empty());
  return find_fp8(files, module, std::string(kCompressedScale),
                  grouped ? 1 : (blocked ? scheme.block_rows : 0),
                  grouped ? scheme.group_size : (blocked ? scheme.block_columns : 0));
}

bool on_float_grid(const WeightLayout& layout) {
  return layout.as<Fp8Blocks>() != nullptr || layout.as<Fp4Groups>() != nullptr;
}

Fit fit_compressed_floats(const TargetModule& module) {
  const WeightLayout& layout = module.layout;
  if (const auto* blocks = layout.as<Fp8Blocks>()) {
    if (blocks->scales.dtype == DType::f8_e8m0)
      return Fit::no("has E8M0 scales, and float-quantized has floats");
    return {};
  }
  const auto& groups = layout.get<Fp4Groups>();
  if (groups.has_global() && !groups.divides)
    return Fit::no("has a global scale that multiplies (ModelOpt's), and the one here divides");
  const int64_t group = groups.has_global() ? kNvfp4.group_size : kMxfp4.group_size;
  if (groups.group_size != group)
    return Fit::no(
        fmt::format("has groups of {}, and there are only {}", groups.group_size, group));
  if (layout.in % group != 0)
    return Fit::no(
        fmt::format("has groups of {}, which do not divide its {} inputs", group, layout.in));
  return {};
}

std::vector<PartSpec> compressed_float_parts(const TargetModule& module) {
  const WeightLayout& layout = module.layout;
  const std::string weight = module.name + ".weight";
  PartSpec scales = layout.spec("scales");
  scales.name = weight + "_scale";
  if (layout.as<Fp8Blocks>() != nullptr) {
    if (fp8_strategy(layout) == "tensor") scales.shape = {1};
    return {{weight, DType::f8_e4m3, {layout.out, layout.in}}, scales};
  }
  if (scales.dtype == DType::f8_e8m0) scales.dtype = DType::u8;
  std::vector<PartSpec> parts = {{weight + "_packed", DType::u8, layout.spec("codes").shape},
                                 scales};
  if (layout.has("global")) parts.push_back({module.name + kGlobalScale, DType::f32, {1}});
  return parts;
}

PackedTensors compressed_float_tensors(const TargetModule& module, const Weight& weight) {
  PackedTensors tensors;
  const PartViews parts = weight.parts();
  for (const PartSpec& spec : compressed_float_parts(module)) {
    const char* part = spec.name.ends_with("_global_scale") ? "global"
                       : spec.name.ends_with("_scale")      ? "scales"
                                                            : "codes";
    tensors.views[spec.name] = {spec.dtype, spec.shape, parts.at(part).bytes};
  }
  return tensors;
}

std::string compressed_float_format(const WeightLayout& layout) {
  if (layout.as<Fp8Blocks>() != nullptr) return "float-quantized";
  return layout.has("global") ? "nvfp4-pack-quantized" : "mxfp4-pack-quantized";
}

Json compressed_float_weights(const WeightLayout& layout) {
  Json weights = {{"num_bits", layout.code_bits()},
                  {"type", "float"},
                  {"symmetric", true},
                  {"group_size", nullptr},
                  {"block_structure", nullptr},
                  {"dynamic", false},
                  {"actorder", nullptr},
                  {"observer", "minmax"},
                  {"observer_kwargs", Json::object()}};
  if (const auto* blocks = layout.as<Fp8Blocks>()) {
    const std::string strategy = fp8_strategy(layout);
    weights["strategy"] = strategy;
    if (strategy == "group") weights["group_size"] = blocks->block_columns;
    if (strategy == "block")
      weights["block_structure"] = Json::array({blocks->block_rows, blocks->block_columns});
    return weights;
  }
  weights["group_size"] = layout.get<Fp4Groups>().group_size;
  weights["strategy"] = layout.has("global") ? "tensor_group" : "group";
  weights["scale_dtype"] = layout.has("global") ? "torch.float8_e4m3fn" : "torch.uint8";
  weights["zp_dtype"] = weights["scale_dtype"];
  return weights;
}

}  // namespace qwb
