// Names of tensors.
#include "formats/gguf/architecture.h"

#include <array>
#include <span>

namespace qwb {
namespace {

struct TensorRow {
  std::string_view gguf;
  std::string_view huggingface;
  GgufLayout layout = GgufLayout::plain;
};

// Of the whole model, then of a layer ("blk.N." here, "PREFIX.N." there); without ".weight" and
// ".bias".
constexpr std::array<TensorRow, 3> kLlamaTop = {
    {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}}};
constexpr std::array<TensorRow, 11> kLlamaLayer = {
    {{"attn_norm", "input_layernorm"},
     {"attn_q", "self_attn.q_proj", GgufLayout::heads},
     {"attn_k", "self_attn.k_proj", GgufLayout::kv_heads},
     {"attn_v", "self_attn.v_proj"},
     {"attn_output", "self_attn.o_proj"},
     {"attn_q_norm", "self_attn.q_norm"},
     {"attn_k_norm", "self_attn.k_norm"},
     {"ffn_norm", "post_attention_layernorm"},
     {"ffn_gate", "mlp.gate_proj"},
     {"ffn_up", "mlp.up_proj"},
     {"ffn_down", "mlp.down_proj"}}};
constexpr std::array<TensorRow, 4> kGpt2Top = {{{"token_embd", "transformer.wte"},
                                                {"position_embd", "transformer.wpe"},
                                                {"output_norm", "transformer.ln_f"},
                                                {"output", "lm_head"}}};
constexpr std::array<TensorRow, 6> kGpt2Layer = {
    {{"attn_norm", "ln_1"},
     {"attn_qkv", "attn.c_attn", GgufLayout::transposed},
     {"attn_output", "attn.c_proj", GgufLayout::transposed},
     {"ffn_norm", "ln_2"},
     {"ffn_up", "mlp.c_fc", GgufLayout::transposed},
     {"ffn_down", "mlp.c_proj", GgufLayout::transposed}}};

struct Names {
  std::span<const TensorRow> top, layer;
  std::string_view prefix;
};

Names names_of(const std::string& architecture) {
  if (architecture == "gpt2") return {kGpt2Top, kGpt2Layer, "transformer.h."};
  return {kLlamaTop, kLlamaLayer, "model.layers."};
}

// Only files of the Llama architecture have interleaved heads; a bias is a vector, never
// transposed.
GgufLayout layout_of(const std::string& architecture, GgufLayout layout, std::string_view ending) {
  const bool heads = layout == GgufLayout::heads || layout == GgufLayout::kv_heads;
  if (heads && architecture != "llama") return GgufLayout::plain;
  if (layout == GgufLayout::transposed && ending == ".bias") return GgufLayout::plain;
  return layout;
}

// Cuts "PREFIX12.rest" into "12" and "rest".
bool cut_layer(std::string_view name, std::string_view prefix, std::string_view& number,
               std::string_view& rest) {
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos || dot == 0 || dot > 6) return false;
  number = name.substr(0, dot);
  rest = name.substr(dot + 1);
  return number.find_first_not_of("0123456789") == std::string_view::npos &&
         (number.size() == 1 || number[0] != '0');
}

std::string_view cut_ending(std::string_view& name) {
  for (const std::string_view ending : {".weight", ".bias"}) {
    if (!name.ends_with(ending)) continue;
    name.remove_suffix(ending.size());
    return ending;
  }
  return {};
}

}  // namespace

std::optional<GgufName> huggingface_tensor_name(const std::string& architecture,
                                                const std::string& gguf) {
  const Names names = names_of(architecture);
  std::string_view name = gguf, number, rest;
  const std::string_view ending = cut_ending(name);
  if (ending.empty()) return std::nullopt;
  const bool layer = cut_layer(name, "blk.", number, rest);
  for (const TensorRow& row : layer ? names.layer : names.top) {
    if (row.gguf != (layer ? rest : name)) continue;
    std::string full;
    if (layer) full.append(names.prefix).append(number).append(".");
    full.append(row.huggingface).append(ending);
    return GgufName{full, layout_of(architecture, row.layout, ending)};
  }
  return std::nullopt;
}

std::optional<GgufName> gguf_tensor_name(const std::string& architecture,
                                         const std::string& huggingface) {
  const Names names = names_of(architecture);
  std::string full = huggingface;
  if (architecture == "gpt2" && !full.starts_with("transformer.") && !full.starts_with("lm_head."))
    full.insert(0, "transformer.");
  std::string_view name = full, number, rest;
  const std::string_view ending = cut_ending(name);
  if (ending.empty()) return std::nullopt;
  const bool layer = cut_layer(name, names.prefix, number, rest);
  for (const TensorRow& row : layer ? names.layer : names.top) {
    if (row.huggingface != (layer ? rest : name)) continue;
    std::string result;
    if (layer) result.append("blk.").append(number).append(".");
    result.append(row.gguf).append(ending);
    return GgufName{result, layout_of(architecture, row.layout, ending)};
  }
  return std::nullopt;
}

}  // namespace qwb
