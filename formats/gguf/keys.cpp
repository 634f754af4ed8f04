// Keys of a file beside those that config.json is made from: each is known to change nothing, or
// refused. Against llama.cpp's llama_model_base::load_hparams and load_arch_hparams of llama,
// qwen2, qwen3 and gpt2, and its converters, which write keys that no architecture here reads.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <span>

#include "formats/gguf/architecture.h"
#include "formats/gguf/rope.h"
#include "lib/base/error.h"

namespace qwb {
namespace {

// Never change what a text costs here, whatever they hold.
constexpr auto kWithoutEffect = std::to_array<std::string_view>({
    "attention.layer_norm_epsilon",      // of the other kind of norm; converters wrote both
    "attention.layer_norm_rms_epsilon",  // likewise
    "pooling_type",                      // only embeddings of whole texts are pooled
    "rope.scaling.finetuned",            // a remark
    "vocab_size",                        // the rows of token_embd.weight count
});

// Do nothing with this value, and something else with any other.
struct Neutral {
  std::string_view key;
  double value;
  double other;  // also neutral
};
constexpr auto kNeutral = std::to_array<Neutral>({{"attention.causal", 1, 1},
                                                  {"attention.clamp_kqv", 0, 0},
                                                  {"attention.max_alibi_bias", 0, 0},
                                                  {"attention.scale", 0, 0},
                                                  {"attention.temperature_scale", 0, 0},
                                                  {"attn_logit_softcapping", 0, 0},
                                                  {"embedding_scale", 0, 1},
                                                  {"expert_group_count", 0, 1},
                                                  {"expert_group_used_count", 0, 1},
                                                  {"expert_shared_count", 0, 0},
                                                  {"expert_used_count", 0, 0},
                                                  {"final_logit_softcapping", 0, 0},
                                                  {"leading_dense_block_count", 0, 0},
                                                  {"logit_scale", 0, 1},
                                                  {"nextn_predict_layers", 0, 0},
                                                  {"residual_scale", 0, 1},
                                                  {"rope.scaling.alpha", 0, 0},
                                                  {"rope.scaling.yarn_log_multiplier", 0, 0},
                                                  {"use_parallel_residual", 0, 0}});

bool contains(std::span<const std::string_view> list, std::string_view name) {
  return std::ranges::find(list, name) != list.end();
}

[[noreturn]] void refuse_key(const std::string& key, const std::string& why,
                             const std::string& where) {
  throw Error(ErrorKind::unsupported, "the key '" + key + "' " + why, where,
              "it could change what the model computes");
}

// Whether `value` is one number that means nothing.
bool is_neutral(const Neutral& neutral, const GgufValue& value, const std::string& where) {
  if (value.is_array || value.kind == GgufKind::string) return false;
  const bool real = value.kind == GgufKind::f32 || value.kind == GgufKind::f64;
  const double number = real ? value.number(where) : static_cast<double>(value.integer(where));
  return number == neutral.value || number == neutral.other;
}

// The old converter for Meta's own checkpoints wrote it; all files have this layout.
bool is_usual_layout(std::string_view name, const GgufValue& value) {
  return name == "tensor_data_layout" && value.kind == GgufKind::string && !value.is_array &&
         (value.data == "Meta AI original pth" || value.data == "reference");
}

void check_key(const std::string& key, std::string_view name, const GgufValue& value,
               const std::string& where) {
  if (contains(kWithoutEffect, name) || is_usual_layout(name, value)) return;
  const auto* neutral = std::ranges::find(kNeutral, name, &Neutral::key);
  if (neutral == kNeutral.end()) refuse_key(key, "is not known", where);
  if (!is_neutral(*neutral, value, where + ": " + key))
    refuse_key(key, "has a value that is not supported", where);
}

// By any architecture of that name: config.cpp and rope.cpp check them.
std::set<std::string_view> keys_read(const std::string& architecture) {
  std::set<std::string_view> keys;
  for (const Architecture& known : architectures()) {
    if (!known.gguf || known.gguf->name != architecture) continue;
    for (const GgufSetting& setting : known.gguf->settings) keys.insert(setting.key);
    if (known.gguf->mark) keys.insert(known.gguf->mark->key);
    if (known.gguf->rope) keys.insert(gguf_rope_keys().begin(), gguf_rope_keys().end());
  }
  return keys;
}

}  // namespace

void check_gguf_keys(const GgufMetadata& metadata, const std::string& architecture,
                     const std::string& where) {
  const std::set<std::string_view> read = keys_read(architecture);
  const std::string prefix = architecture + ".";
  for (const auto& [key, value] : metadata.entries()) {
    if (!key.starts_with(prefix)) continue;
    const std::string_view name = std::string_view(key).substr(prefix.size());
    if (!read.contains(name)) check_key(key, name, value, where);
  }
}

}  // namespace qwb
