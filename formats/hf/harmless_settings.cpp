// Keys of a quantization_config that say nothing about what the stored weights mean. Checked
// against GPTQModel 1.0 to 7.3, AutoGPTQ, optimum, AutoAWQ, auto-round 0.3 to main and
// transformers 5: none of them looks at these when it reads weights.
#include <algorithm>
#include <string>

#include "formats/hf/quantization_settings.h"

namespace qwb {
namespace {

struct HarmlessSettings {
  std::string_view reason;
  std::string_view keys;  // a space before and behind each
};

constexpr HarmlessSettings kHarmless[] = {
    {"how the codes were searched for; the stored ones are read whatever the search was",
     " act_group_aware static_groups true_sequential damp_percent damp_auto_increment "
     "adaptive_damping mse gptaq gptaq_alpha v2 v2_alpha foem hessian hyb_act fail_safe failsafe "
     "fallback duo_scaling apply_clip iters lr minmax_lr lr_scheduler enable_minmax_tuning "
     "enable_norm_bias_tuning enable_quanted_input enable_full_range not_use_best_mse "
     "dynamic_max_gap gradient_accumulate_steps sampler seed nblocks "},
    {"what the search was calibrated on",
     " tokenizer dataset nsamples seqlen batch_size train_bs pad_token_id model_seqlen "
     "max_input_length "},
    {"which modules were looked at; the stored tensors tell which were quantized",
     " modules_in_block_to_quantize inside_layer_modules module_name_preceding_first_block "
     "block_name_to_quantize to_quant_block_names quant_block_list supported_types lm_head "},
    {"the machine and the memory of the making",
     " device amp low_gpu_mem_usage lm_head_low_gpu_mem_usage cache_block_outputs "
     "parallel_packing pack_impl offload_to_disk offload_to_disk_path compute_device_filter "
     "calibration_data_device auto_forward_data_parallel vram_strategy dense_vram_strategy "
     "dense_vram_strategy_devices moe_vram_strategy moe_vram_strategy_devices gc_mode "
     "wait_for_submodule_finalizers moe v2_memory_device gptaq_memory_device hessian_chunk_size "
     "hessian_chunk_bytes hessian_use_bfloat16_staging scale_search_chunked_activations "
     "mock_quantization "},
    {"which kernels of another program run the model",
     " use_cuda_fp16 use_exllama disable_exllama exllama_config kernel do_fuse fuse_max_seq_len "
     "modules_to_fuse run_compressed dequantize use_optimized_inference "
     "llm_int8_enable_fp32_cpu_offload "},
    {"who made the file, and of what",
     " meta quantizer provider autoround_version model_name_or_path model_file_base_name "
     "_name_or_path global_compression_ratio "},
    {"the type of the scales, which their tensors have themselves", " scale_dtype zp_dtype "},
};

}  // namespace

bool is_harmless_setting(std::string_view key) {
  if (key.find(' ') != std::string_view::npos) return false;
  const std::string word = " " + std::string(key) + " ";
  return std::any_of(std::begin(kHarmless), std::end(kHarmless), [&](const HarmlessSettings& row) {
    return row.keys.find(word) != std::string_view::npos;
  });
}

}  // namespace qwb
