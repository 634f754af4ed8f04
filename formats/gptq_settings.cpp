#include "formats/gptq_settings.h"

#include <initializer_list>

#include "formats/quantization_settings.h"
#include "lib/base/error.h"

namespace qwb {
namespace {

// How the codes were searched for says nothing about what they mean.
constexpr SettingRule kGptqRules[] = {
    {"quant_method", "gptq"},
    {"method", "gptq"},
    {"bits", ""},
    {"w_bit", ""},
    {"wbits", ""},
    {"group_size", ""},
    {"q_group_size", ""},
    {"checkpoint_format", "gptq|gptq_v2"},
    {"format", "gptq|gptq_v2"},
    {"version", "gptq|gptq_v2"},
    {"pack_dtype", "int32|torch.int32"},
    {"sym", ""},
    {"zero_point", ""},
    {"dynamic", ""},
    {"lm_head", ""},
    {"modules_in_block_to_quantize", ""},
    {"inside_layer_modules", ""},
    {"desc_act", ""},
    {"act_order", ""},
    {"act_group_aware", ""},
    {"static_groups", ""},
    {"true_sequential", ""},
    {"damp_percent", ""},
    {"damp_auto_increment", ""},
    {"adaptive_damping", ""},
    {"mse", ""},
    {"gptaq", ""},
    {"v2", ""},
    {"v2_alpha", ""},
    {"v2_memory_device", ""},
    {"foem", ""},
    {"hessian", ""},
    {"hyb_act", ""},
    {"fail_safe", ""},
    {"failsafe", ""},
    {"fallback", ""},
    {"meta", ""},
    {"model_name_or_path", ""},
    {"model_file_base_name", ""},
    {"tokenizer", ""},
    {"dataset", ""},
    {"nsamples", ""},
    {"seqlen", ""},
    {"batch_size", ""},
    {"pad_token_id", ""},
    {"model_seqlen", ""},
    {"max_input_length", ""},
    {"cache_block_outputs", ""},
    {"module_name_preceding_first_block", ""},
    {"block_name_to_quantize", ""},
    {"use_cuda_fp16", ""},
    {"use_exllama", ""},
    {"disable_exllama", ""},
    {"exllama_config", ""},
    {"backend", ""},
    {"kernel", ""},
    {"device", ""},
    {"parallel_packing", ""},
    {"pack_impl", ""},
    {"offload_to_disk", ""},
    {"offload_to_disk_path", ""},
    {"compute_device_filter", ""},
    {"auto_forward_data_parallel", ""},
    {"vram_strategy", ""},
    {"gc_mode", ""},
    {"wait_for_submodule_finalizers", ""},
    {"moe", ""},
    {"is_marlin_format", "-"},
    {"mock_quantization", "-"},
    {"rotation", "-"},
    {"adapter", "-"},
};
constexpr SettingRule kGptqOverrideRules[] = {
    {"bits", ""},
    {"group_size", ""},
    {"sym", ""},
    {"desc_act", ""},
    {"damp_percent", ""},
    {"mse", ""},
    {"static_groups", ""},
    {"act_group_aware", ""},
    {"hessian", ""},
    {"damp_auto_increment", ""},
    {"true_sequential", ""},
};

int64_t gptq_number(const Json& settings, std::initializer_list<const char*> keys,
                    int64_t fallback) {
  for (const char* key : keys) {
    if (json_has(settings, key)) return json_int(settings, key, kGptqWhere);
  }
  return fallback;
}

}  // namespace

void check_gptq_settings(const Json& settings) {
  check_settings(settings, kGptqRules, kGptqWhere);
}

GptqSettings gptq_settings(const Json& settings) {
  const auto text = [&](const char* key, const std::string& fallback) {
    return json_string(settings, key, kGptqWhere, fallback);
  };
  GptqSettings result;
  result.v2 = text("checkpoint_format", text("format", text("version", "gptq"))) == "gptq_v2";
  result.bits = gptq_number(settings, {"bits", "w_bit", "wbits"}, 4);
  result.group_size = gptq_number(settings, {"group_size", "q_group_size"}, 128);
  result.group_told = json_has(settings, "group_size") || json_has(settings, "q_group_size");
  if (json_has(settings, "sym")) {
    result.symmetric = json_bool(settings, "sym", kGptqWhere);
  } else if (json_has(settings, "zero_point")) {
    result.symmetric = !json_bool(settings, "zero_point", kGptqWhere);
  }
  return result;
}

GptqSettings gptq_settings(const Json& settings, const std::string& module) {
  GptqSettings result = gptq_settings(settings);
  if (!json_has(settings, "dynamic")) return result;
  const Json& dynamic = settings.at("dynamic");
  if (!dynamic.is_object())
    throw Error(ErrorKind::failed, "'dynamic' must be an object", kGptqWhere);
  for (const auto& [pattern, overrides] : dynamic.items()) {
    const bool out = pattern.starts_with("-:"), in = pattern.starts_with("+:");
    if (!python_match(out || in ? pattern.substr(2) : pattern, module, kGptqWhere)) continue;
    result.quantized = !out;
    if (out) return result;
    check_settings(overrides, kGptqOverrideRules, std::string(kGptqWhere) + ": dynamic " + pattern);
    result.bits = gptq_number(overrides, {"bits"}, result.bits);
    result.group_told = result.group_told || json_has(overrides, "group_size");
    result.group_size = gptq_number(overrides, {"group_size"}, result.group_size);
    if (json_has(overrides, "sym")) result.symmetric = json_bool(overrides, "sym", kGptqWhere);
    return result;
  }
  return result;
}

}  // namespace qwb
