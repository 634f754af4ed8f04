// Checkpoints with "quant_method": "fp8", as DeepSeek-V3 and Qwen3-FP8 come: FP8 weights with a
// scale for each block, or for the tensor or channel. Page: formats/hf/fp8.md.
#include <fmt/format.h>

#include "formats/hf/float_modules.h"
#include "formats/hf/quantization_settings.h"
#include "lib/codec/fp8_blocks.h"

namespace qwb {
namespace {

constexpr char kFp8Where[] = "quantization_config (fp8)";
constexpr char kFp8Inverse[] = ".weight_scale_inv";
constexpr char kFp8Scale[] = ".weight_scale";
constexpr int64_t kFp8Block = 128;

constexpr SettingRule kFp8Rules[] = {
    {"quant_method", "fp8"},        {"activation_scheme", "dynamic|static"},
    {"fmt", "e4m3|float8_e4m3fn"},  {"weight_block_size", ""},
    {"modules_to_not_convert", ""}, {"ignored_layers", ""},
    {"modules_to_convert", ""},  // the tensors tell
    {"scale_fmt", "float|ue8m0"},   {"expert_dtype", "fp8"},
    {"kv_cache_scheme", "-"},
};

struct Fp8Settings {
  int64_t block_rows = 0, block_columns = 0;  // 0: not by blocks
};

Fp8Settings fp8_settings(const Json& settings) {
  check_settings(settings, kFp8Rules, kFp8Where);
  Fp8Settings result;
  if (!json_has(settings, "weight_block_size")) return result;
  const Json& block = settings.at("weight_block_size");
  const auto is_size = [](const Json& size) {
    return size.is_number_unsigned() && size.get<uint64_t>() >= 1 &&
           size.get<uint64_t>() <= uint64_t{1} << 31;
  };
  if (!block.is_array() || block.size() != 2 || !is_size(block[0]) || !is_size(block[1]))
    throw Error(ErrorKind::failed, "weight_block_size must be two sizes", kFp8Where);
  return {block[0].get<int64_t>(), block[1].get<int64_t>()};
}

class Fp8Reading : public PackedReader {
 public:
  std::string name() const override { return "fp8"; }
  bool matches(const Json& settings) const override {
    return json_string(settings, "quant_method", "settings", "") == "fp8";
  }
  void check(const Json& settings) const override { fp8_settings(settings); }
  // A list says what is not quantized; of the others the tensors tell.
  std::optional<bool> quantizes(const Json& settings, const std::string& module) const override {
    for (const char* list : {"modules_to_not_convert", "ignored_layers"}) {
      if (json_has(settings, list) && skips_module(settings.at(list), module, kFp8Where))
        return false;
    }
    return std::nullopt;
  }
  std::vector<std::string> notes(const Json& /*settings*/) const override {
    return {
        "the engines of this format round activations to FP8 too: here the weights alone are "
        "quantized"};
  }
  std::vector<PackedModule> modules(const Checkpoint& files, const Json& settings,
                                    const Context& /*context*/) const override {
    std::vector<PackedModule> result;
    for (const std::string& tensor : files.names()) {
      for (const char* suffix : {kFp8Inverse, kFp8Scale}) {
        if (tensor.ends_with(suffix))
          result.push_back(
              find(files, settings, tensor.substr(0, tensor.size() - std::string(suffix).size()))
                  .module());
      }
    }
    return result;
  }
  LoadedWeight read(const Checkpoint& files, const Json& settings, const PackedModule& module,
                    const Context& context) const override {
    return find(files, settings, module.name).read(context);
  }

 private:
  static FloatModule find(const Checkpoint& files, const Json& settings,
                          const std::string& module) {
    const Fp8Settings known = fp8_settings(settings);
    const bool inverse = files.find(module + kFp8Inverse).has_value();
    if (inverse && files.find(module + kFp8Scale))
      throw Error(ErrorKind::failed, "has both weight_scale and weight_scale_inv", module);
    return find_fp8(files, module, inverse ? kFp8Inverse : kFp8Scale, known.block_rows,
                    known.block_columns);
  }
};

// Blocks of 128 x 128 alone, which is what all engines of the format load.
class Fp8Writing : public PackedWriter {
 public:
  Fit fit(const TargetModule& module, const WeightReader& /*read*/) const override {
    const WeightLayout& form = module.layout;
    const auto* blocks = form.as<Fp8Blocks>();
    if (blocks == nullptr) return Fit::no("is stored as " + form.codec() + ", not as FP8");
    if (module.role != TargetModule::Role::linear || module.plain == Orientation::in_out)
      return Fit::no("is no Linear of a block, and this format loads no other FP8");
    const bool is_128 = blocks->block_rows == std::min(kFp8Block, form.out) &&
                        blocks->block_columns == std::min(kFp8Block, form.in);
    if (!is_128) return Fit::no("has scales for other blocks than 128 x 128");
    // transformers divides the matrix into as many equal blocks as there are scales.
    const auto whole = [](int64_t size) { return size <= kFp8Block || size % kFp8Block == 0; };
    if (!whole(form.out) || !whole(form.in))
      return Fit::no(
          fmt::format("has {} x {} weights, which blocks of 128 do not divide", form.out, form.in));
    if (blocks->scales.dtype == DType::f8_e8m0)
      return Fit::no("has E8M0 scales, which only some engines load");
    return {};
  }
  std::vector<PartSpec> layout(const TargetModule& module) const override {
    const PartSpec scales = module.layout.spec("scales");
    return {{module.name + ".weight", DType::f8_e4m3, {module.layout.out, module.layout.in}},
            {module.name + kFp8Inverse, scales.dtype, scales.shape}};
  }
  PackedTensors write(const TargetModule& module, const Weight& weight, const Json& /*settings*/,
                      const Context& /*context*/) const override {
    const auto& blocks = weight.get<Fp8Blocks>();
    PackedTensors tensors;
    tensors.views[module.name + ".weight"] = blocks.codes;
    tensors.views[module.name + kFp8Inverse] = blocks.scales;
    return tensors;
  }
  Json quantization_config(const std::vector<TargetModule>& /*modules*/,
                           const std::vector<TargetModule>& plain) const override {
    Json kept = Json::array();
    for (const TargetModule& module : plain) kept.push_back(module.name);
    return {{"quant_method", "fp8"},
            {"activation_scheme", "dynamic"},
            {"fmt", "e4m3"},
            {"weight_block_size", Json::array({kFp8Block, kFp8Block})},
            {"modules_to_not_convert", kept}};
  }
};

}  // namespace

std::vector<ModelFormat> fp8_formats() {
  return {packed_format("fp8", "FP8 in blocks of 128 x 128, as DeepSeek and Qwen3 come",
                        std::make_shared<Fp8Reading>(), std::make_shared<Fp8Writing>())};
}

}  // namespace qwb
