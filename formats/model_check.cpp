#include "formats/model_check.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "formats/hf/checkpoint.h"
#include "lib/model/architecture.h"

namespace qwb {
namespace {

constexpr char kIncomplete[] = "the checkpoint is incomplete or not of this architecture";
constexpr char kContradiction[] =
    "the tensors and config.json do not belong together, or the file is damaged";

// Endings of tensors that mean nothing without the rest of a quantized weight.
constexpr std::array<std::string_view, 19> kQuantizedParts = {".qweight",
                                                              ".qzeros",
                                                              ".scales",
                                                              ".g_idx",
                                                              ".SCB",
                                                              ".weight_format",
                                                              ".weight_packed",
                                                              ".weight_shape",
                                                              ".weight_scale",
                                                              ".weight_zero_point",
                                                              ".weight_g_idx",
                                                              ".weight_scale_inv",
                                                              ".input_scale",
                                                              ".output_scale",
                                                              ".absmax",
                                                              ".quant_map",
                                                              ".nested_absmax",
                                                              ".nested_quant_map",
                                                              ".weight_global_scale"};

bool is_quantized_part(const std::string& name) {
  return name.find(".quant_state.") != std::string::npos ||
         std::any_of(kQuantizedParts.begin(), kQuantizedParts.end(),
                     [&](std::string_view part) { return name.ends_with(part); });
}

// Tensors of PyTorch modules that are no parameters: computed anew from the settings by whoever
// loads them.
bool is_buffer(const std::string& name, const PartSpec& tensor) {
  // Rotary frequencies and their tables: from rope_theta and rope_scaling.
  for (const char* ending :
       {"rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached",
        "rotary_emb.original_inv_freq", "rotary_pos_emb.inv_freq"}) {
    if (name.ends_with(ending)) return true;
  }
  // The causal mask [1, 1, positions, positions] of GPT-2, GPT-J and GPT-NeoX, and the number that
  // stands for minus infinity in it.
  for (const std::string attention : {".attn.", ".attention."}) {
    if (name.ends_with(attention + "bias") && tensor.shape.size() == 4) return true;
    if (name.ends_with(attention + "masked_bias") && element_count(tensor.shape, name) == 1)
      return true;
  }
  return name.ends_with(".position_ids");
}

bool is_adapter_part(const std::string& name) {
  for (const char* part : {"lora_A", "lora_B", "lora_embedding_", "lora_magnitude_vector",
                           ".base_layer.", ".ia3_l", ".modules_to_save."}) {
    if (name.find(part) != std::string::npos) return true;
  }
  return false;
}

class ModelCheck {
 public:
  explicit ModelCheck(OpenModel& open)
      : open_(open), source_(*open.source), where_(open.folder.string()) {}

  std::vector<std::string> run() {
    check_parts();
    const auto architecture = known_architecture();
    if (!architecture) return {};
    try {
      config_ = (*architecture)->parse(open_.config, open_.config_name());
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::unsupported) throw;
      return {};  // whoever runs the model says so; copying it needs no more
    }
    spec_ = (*architecture)->spec(config_, source_);
    check_tying(**architecture);
    collect();
    check_rest();
    return std::move(notes_);
  }

 private:
  std::optional<const Architecture*> known_architecture() const {
    if (!json_has(open_.config, "model_type") || !open_.config.at("model_type").is_string())
      return std::nullopt;
    const auto name = open_.config.at("model_type").get<std::string>();
    for (const Architecture& known : architectures()) {
      if (known.name == name) return &known;
    }
    return std::nullopt;
  }

  // What is left of a quantized weight whose other parts are missing, or that the settings do not
  // announce.
  void check_parts() const {
    const bool quantized = !open_.manifest.is_null();
    for (const std::string& name : source_.names()) {
      const PartSpec tensor = *source_.describe(name);
      const bool codes = name.ends_with(kWeightSuffix) && !dtype_is_float(tensor.dtype);
      if (!is_quantized_part(name) && !codes) continue;
      std::string what = "tensor '" + name + "' is a part of a quantized weight";
      if (codes) {
        what = "tensor '" + name + "' is " + std::string(dtype_name(tensor.dtype)) +
               ": codes of a quantized weight";
      }
      if (quantized) {
        throw Error(ErrorKind::failed,
                    what + (codes ? " without their scales (SCB, quant_state or weight_scale)"
                                  : " whose other parts are missing"),
                    where_, "the checkpoint is incomplete; fetch it again");
      }
      throw Error(ErrorKind::unsupported,
                  what + ", and config.json has no quantization_config that says how", where_,
                  "take the config.json that belongs to these tensors");
    }
  }

  // transformers ties two embeddings only if the checkpoint does not tell them apart.
  void check_tying(const Architecture& architecture) {
    if (!config_.tied_embeddings) return;
    const std::string head = "lm_head";
    if (!has_weight(head)) return;
    if (same_weight(head, spec_.embedding)) {
      if (source_.find(head + ".weight")) unused(head + ".weight");
      return;
    }
    open_.config["tie_word_embeddings"] = false;
    open_.untied = true;
    config_ = architecture.parse(open_.config, open_.config_name());
    spec_ = architecture.spec(config_, source_);
    notes_.push_back(
        "config.json ties " + head + " to " + spec_.embedding +
        ", and the checkpoint has two that differ: both are used, as transformers 5 does");
  }

  bool has_weight(const std::string& module) const {
    return source_.describe(module + ".weight") || is_quantized(module);
  }
  bool is_quantized(const std::string& module) const {
    if (quantized_.empty()) {
      const auto names = source_.quantized_modules();
      quantized_.insert(names.begin(), names.end());
    }
    return quantized_.contains(module);
  }
  bool same_weight(const std::string& a, const std::string& b) const {
    if (is_quantized(a) || is_quantized(b)) return false;
    const auto x = source_.find(a + ".weight"), y = source_.find(b + ".weight");
    if (!x || !y) return !y;  // without the other one there is nothing to tell apart
    const bool same =
        x->dtype == y->dtype && x->shape == y->shape && std::ranges::equal(x->bytes, y->bytes);
    source_.release(*x);
    source_.release(*y);
    return same;
  }

  void unused(const std::string& name) { open_.unused.insert(name); }

  [[noreturn]] void wrong_shape(const std::string& what, const Shape& found,
                                const Shape& wanted) const {
    throw Error(ErrorKind::failed,
                what + " is " + shape_text(found) + ", config.json asks for " + shape_text(wanted),
                where_, kContradiction);
  }

  void take_weight(const std::string& module, int64_t out, int64_t in, Orientation orientation) {
    if (is_quantized(module)) {
      const WeightLayout layout = source_.quantized_layout(module);
      if (layout.out != out || layout.in != in)
        wrong_shape("the quantized weight of '" + module + "'", {layout.out, layout.in}, {out, in});
      taken_.insert(module);
      return;
    }
    take_tensor(module + ".weight",
                orientation == Orientation::out_in ? Shape{out, in} : Shape{in, out});
  }

  void take_tensor(const std::string& name, const Shape& shape) {
    const auto tensor = source_.describe(name);
    if (!tensor)
      throw Error(ErrorKind::not_found, "tensor '" + name + "' is missing", where_, kIncomplete);
    if (tensor->shape != shape) wrong_shape("tensor '" + name + "'", tensor->shape, shape);
    if (!dtype_is_float(tensor->dtype)) {
      throw Error(
          ErrorKind::unsupported,
          "tensor '" + name + "' is " + std::string(dtype_name(tensor->dtype)) + ", not floats",
          where_);
    }
    taken_.insert(name);
  }

  void take_norm(const NormSpec& norm, int64_t size) {
    if (norm.empty()) return;
    take_tensor(norm.module + ".weight", {size});
    if (norm.has_bias()) take_tensor(norm.module + ".bias", {size});
  }

  void take_linear(const LinearSpec& linear) {
    take_weight(linear.module, linear.out, linear.in, linear.orientation);
    if (linear.bias) take_tensor(linear.module + ".bias", {linear.out});
    if (!is_quantized(linear.module)) plain_.push_back(linear.module);
  }

  void collect() {
    take_weight(spec_.embedding, config_.vocab, config_.hidden, Orientation::out_in);
    if (!spec_.positions.empty())
      take_weight(spec_.positions, config_.position_offset + config_.max_positions, config_.hidden,
                  Orientation::out_in);
    for (const BlockSpec& block : spec_.blocks) {
      for (const SublayerSpec& sublayer : block.sublayers) {
        take_norm(sublayer.before, config_.hidden);
        take_norm(sublayer.after, config_.hidden);
        if (const auto* parallel = std::get_if<ParallelSpec>(&sublayer.mixer))
          take_norm(parallel->mlp_norm, config_.hidden);
        if (const AttentionSpec* attention = attention_of(sublayer)) {
          const bool all = attention->norms_span_heads;
          take_norm(attention->q_norm, config_.head_dim * (all ? config_.heads : 1));
          take_norm(attention->k_norm, config_.head_dim * (all ? config_.kv_heads : 1));
        }
      }
      for (const LinearSpec& linear : block_linears(block)) take_linear(linear);
    }
    take_norm(spec_.embedding_norm, config_.hidden);
    take_norm(spec_.final_norm, config_.hidden);
    if (!spec_.output_bias.empty()) take_tensor(spec_.output_bias, {config_.vocab});
    take_weight(spec_.output_embedding, config_.vocab, config_.hidden, Orientation::out_in);
    note_plain_modules();
  }

  // Modules that the settings call quantized and that are stored as floats are taken as floats.
  void note_plain_modules() {
    std::erase_if(plain_,
                  [&](const std::string& module) { return source_.announces(module) != true; });
    if (plain_.empty()) return;
    notes_.push_back(
        std::to_string(plain_.size()) + " module" + (plain_.size() == 1 ? "" : "s") + " (" +
        plain_.front() + (plain_.size() > 1 ? ", ..." : "") +
        ") are stored as floats though the quantization_config says quantized: read as they are");
  }

  void check_rest() {
    std::vector<std::string> left;
    for (const std::string& name : source_.names()) {
      if (taken_.contains(name) || open_.unused.contains(name)) continue;
      const PartSpec tensor = *source_.describe(name);
      if (is_buffer(name, tensor) || is_zero_bias(name, tensor)) {
        unused(name);
        continue;
      }
      refuse_if_part_of_model(name);
      left.push_back(name);
    }
    for (const std::string& module : source_.quantized_modules()) {
      if (taken_.contains(module)) continue;
      refuse_if_part_of_model(module + ".weight");
      left.push_back(module + ".weight");
    }
    if (left.empty()) return;
    notes_.push_back(named_tensors(left) + " of no part of a " + config_.architecture +
                     " model: not used, as by transformers");
  }

  // AutoGPTQ gave every module a bias, zeros where the model has none.
  bool is_zero_bias(const std::string& name, const PartSpec& tensor) const {
    if (!name.ends_with(".bias") || tensor.shape.size() != 1 || !dtype_is_float(tensor.dtype))
      return false;
    const std::vector<float> values = read_floats(*source_.find(name), name);
    return std::all_of(values.begin(), values.end(), [](float value) { return value == 0; });
  }

  // "model." of "model.norm", "transformer." or nothing of "transformer.ln_f".
  std::string prefix() const {
    return spec_.final_norm.module.substr(0, spec_.final_norm.module.rfind('.') + 1);
  }

  std::string layers_prefix() const {
    const std::string module = block_linears(spec_.blocks.front()).front().module;
    return module.substr(0, module.find("0."));
  }

  void refuse_if_part_of_model(const std::string& name) const {
    if (is_adapter_part(name)) {
      refuse_tensor(
          name, "belongs to a LoRA adapter",
          "merge the adapter into the model (peft: merge_and_unload), or remove its tensors");
    }
    // Heads for several tokens at once: loaders of the model itself leave them out.
    if (name.find("mtp") != std::string::npos) return;
    const std::string layers = layers_prefix();
    if (name.starts_with(layers)) {
      int64_t layer = -1;
      const auto parsed =
          std::from_chars(name.data() + layers.size(), name.data() + name.size(), layer);
      if (parsed.ec == std::errc() && layer >= config_.layers) {
        refuse_tensor(
            name, "is of a layer beyond the " + std::to_string(config_.layers) + " of config.json",
            "set the number of layers right, or remove the tensors");
      }
    }
    const bool inside = !prefix().empty() && name.starts_with(prefix());
    if (!inside && !name.starts_with(layers) && !name.starts_with("lm_head.") &&
        !is_top_tensor(name))
      return;
    refuse_tensor(name, "has no part in a " + config_.architecture + " model with these settings",
                  "it would change the result if it were meant: correct config.json "
                  "(attention_bias, mlp_bias, "
                  "model_type), or remove the tensor");
  }

  // Of a model without a prefix: the names of its own modules.
  bool is_top_tensor(const std::string& name) const {
    for (const std::string& module :
         {spec_.embedding, spec_.final_norm.module, spec_.positions, spec_.embedding_norm.module}) {
      if (!module.empty() && name.starts_with(module + ".")) return true;
    }
    return false;
  }

  [[noreturn]] void refuse_tensor(const std::string& name, const std::string& what,
                                  const std::string& advice) const {
    throw Error(ErrorKind::unsupported, "tensor '" + name + "' " + what, where_, advice);
  }

  OpenModel& open_;
  const ModelSource& source_;
  std::string where_;
  ModelConfig config_;
  ModelSpec spec_;
  mutable std::set<std::string> quantized_;
  std::set<std::string> taken_;  // tensors by name, quantized modules by theirs
  std::vector<std::string> plain_;
  std::vector<std::string> notes_;
};

}  // namespace

std::vector<std::string> check_model(OpenModel& open) {
  return ModelCheck(open).run();
}

namespace {

// "model.embed_tokens.weight" if it is tied to the head and missing, or nothing. (Of an unknown
// kind of model nothing is known.)
std::string missing_embedding(const Checkpoint& files) {
  const std::string where = (files.folder() / "config.json").string();
  std::string embedding;
  try {
    const Architecture& architecture =
        find_architecture(json_string(files.config(), "model_type", where, ""), where);
    const ModelConfig config = architecture.parse(files.config(), where);
    if (config.tied_embeddings) embedding = architecture.spec(config, files).embedding;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) throw;
  }
  if (embedding.empty()) return {};
  const std::vector<std::string> names = files.names();
  const bool there = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return name.starts_with(embedding + ".");  // quantized parts too
  });
  return there ? std::string() : embedding + ".weight";
}

}  // namespace

std::shared_ptr<const Checkpoint> open_checkpoint(const Path& folder) {
  const std::string head = "lm_head.weight";
  auto files = Checkpoint::open(folder);
  if (!files->find(head)) return files;
  const std::string embedding = missing_embedding(*files);
  if (embedding.empty()) return files;
  return files->renamed(head, embedding,
                        head + " is taken for " + embedding +
                            " too, which is missing and tied to it, as transformers 5 does");
}

}  // namespace qwb
