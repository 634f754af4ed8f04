// Checkpoints of NVIDIA's Model Optimizer: FP8 and NVFP4. Page: formats/hf/modelopt.md.
#include "formats/hf/float_modules.h"
#include "formats/hf/quantization_settings.h"

namespace qwb {
namespace {

constexpr char kModeloptWhere[] = "quantization_config (modelopt)";
constexpr std::string_view kModeloptScale = ".weight_scale";

constexpr SettingRule kModeloptRules[] = {
    {"quant_method", "modelopt|modelopt_fp8|modelopt_fp4"},
    {"quant_algo", "FP8|FP8_PER_CHANNEL_PER_TOKEN|NVFP4|W4A16_NVFP4"},
    {"config_groups", ""},  // what quant_algo says, and activations
    {"ignore", ""},
    {"exclude_modules", ""},
    {"group_size", "16"},  // of NVFP4
    {"producer", ""},
    {"kv_cache_scheme", "-"},
    {"kv_cache_quant_algo", "-"},
    {"has_zero_point", "-"},
    {"pre_quant_scale", "-"},
};

class ModeloptReading : public PackedReader {
 public:
  std::string name() const override { return "modelopt"; }
  bool matches(const Json& settings) const override {
    return json_string(settings, "quant_method", "settings", "").starts_with("modelopt");
  }
  void check(const Json& settings) const override {
    check_settings(settings, kModeloptRules, kModeloptWhere);
    if (!json_has(settings, "quant_algo"))
      throw Error(ErrorKind::unsupported, "no 'quant_algo'", kModeloptWhere,
                  "export the model anew with a current Model Optimizer");
  }
  std::vector<std::string> notes(const Json& /*settings*/) const override {
    return {
        "the engines of this format round activations too: here the weights alone are quantized"};
  }
  std::vector<PackedModule> modules(const Checkpoint& files, const Json& settings,
                                    const Context& /*context*/) const override {
    std::vector<PackedModule> result;
    for (const std::string& tensor : files.names()) {
      if (tensor.ends_with(kModeloptScale))
        result.push_back(
            find(files, settings, tensor.substr(0, tensor.size() - kModeloptScale.size()))
                .module());
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
    if (json_string(settings, "quant_algo", kModeloptWhere).ends_with("NVFP4"))
      return find_fp4(files, module, {".weight", ".weight_scale_2", false});
    return find_fp8(files, module, std::string(kModeloptScale), 0, 0);
  }
};

}  // namespace

std::vector<ModelFormat> modelopt_formats() {
  return {packed_format("modelopt", "FP8 and NVFP4 of NVIDIA's Model Optimizer; read only",
                        std::make_shared<ModeloptReading>(), nullptr)};
}

}  // namespace qwb
