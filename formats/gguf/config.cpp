// Settings: config.json from a file's keys.
#include <charconv>
#include <cmath>

#include "formats/gguf/architecture.h"

namespace qwb {
namespace {

// Keys hold f32; the shortest decimal that stands for the same f32 is what the model's author
// wrote.
double as_written(double value) {
  const auto narrow = static_cast<float>(value);
  if (static_cast<double>(narrow) != value) return value;
  char text[48];
  const auto end = std::to_chars(text, text + sizeof(text), narrow).ptr;
  double result = value;
  std::from_chars(text, end, result);
  return result;
}

struct KeyReader {
  const GgufMetadata& metadata;
  const std::string& architecture;
  const std::string& where;

  std::string key(const char* name) const { return architecture + "." + name; }
  bool has(const char* name) const { return metadata.find(key(name)) != nullptr; }
  int64_t integer(const char* name) const { return metadata.integer(key(name), where); }
  int64_t integer(const char* name, int64_t fallback) const {
    return metadata.integer(key(name), where, fallback);
  }
  double number(const char* name) const { return as_written(metadata.number(key(name), where)); }
  double number(const char* name, double fallback) const {
    return as_written(metadata.number(key(name), where, fallback));
  }
  std::string text(const char* name, const std::string& fallback) const {
    return metadata.text(key(name), where, fallback);
  }
};

int64_t vocabulary_rows(const GgufFile& file, const std::string& where) {
  const GgufTensor* table = file.find("token_embd.weight");
  if (table == nullptr || table->shape.size() != 2)
    throw Error(ErrorKind::failed, "there is no matrix 'token_embd.weight'", where,
                "the file holds no language model, or is damaged");
  return table->shape[0];
}

Json rope_of(const KeyReader& keys, const GgufFile& file, int64_t head_dim, int64_t context) {
  const double theta = keys.number("rope.freq_base", 10000);
  // A factor without a type is linear, in llama.cpp too; so is one of 0 or 1 none.
  const double factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1));
  const bool scaled = factor != 0 && factor != 1;
  const std::string kind = keys.text("rope.scaling.type", scaled ? "linear" : "none");
  if (kind != "yarn" && keys.number("rope.scaling.attn_factor", 1) != 1)
    throw Error(ErrorKind::unsupported,
                "the key '" + keys.key("rope.scaling.attn_factor") + "' without scaling by yarn",
                keys.where, "llama.cpp scales the attention by it");
  if (const GgufTensor* divisors = file.find("rope_freqs.weight")) {
    if (kind != "none")
      throw Error(ErrorKind::unsupported, "rope scaling '" + kind + "' beside 'rope_freqs.weight'",
                  keys.where);
    if (divisors->type != GgmlType::f32 || divisors->shape != Shape{head_dim / 2})
      throw Error(ErrorKind::failed,
                  "'rope_freqs.weight' must be F32 [" + std::to_string(head_dim / 2) + "]",
                  keys.where);
    const TensorView view{DType::f32, divisors->shape, file.bytes(*divisors)};
    return llama3_parameters(read_floats(view, "rope_freqs.weight"), theta,
                             keys.number("rope.scaling.original_context_length", 0), keys.where);
  }
  Json rope = {{"rope_type", kind == "none" ? "default" : kind}, {"rope_theta", theta}};
  if (kind == "none") return rope;
  if (kind == "linear" && !scaled) return {{"rope_type", "default"}, {"rope_theta", theta}};
  rope["factor"] = factor;
  if (kind == "linear") return rope;
  if (kind != "yarn")
    throw Error(ErrorKind::unsupported, "rope scaling '" + kind + "' is not known", keys.where,
                "known: none, linear, yarn, and llama3 by rope_freqs.weight");
  rope["original_max_position_embeddings"] =
      keys.integer("rope.scaling.original_context_length", context);
  if (keys.has("rope.scaling.yarn_beta_fast"))
    rope["beta_fast"] = keys.number("rope.scaling.yarn_beta_fast");
  if (keys.has("rope.scaling.yarn_beta_slow"))
    rope["beta_slow"] = keys.number("rope.scaling.yarn_beta_slow");
  // llama.cpp multiplies its own 1 + 0.1 ln(factor) by this.
  if (keys.has("rope.scaling.attn_factor"))
    rope["attention_factor"] =
        keys.metadata.number(keys.key("rope.scaling.attn_factor"), keys.where) *
        (0.1 * std::log(factor) + 1);
  return rope;
}

void add_token_ids(const GgufMetadata& metadata, const std::string& where, Json& config) {
  for (const char* name : {"bos", "eos"}) {
    const std::string key = std::string("tokenizer.ggml.") + name + "_token_id";
    // null, not absent: absent keys have defaults of their own.
    config[std::string(name) + "_token_id"] =
        metadata.find(key) != nullptr ? Json(metadata.integer(key, where)) : Json(nullptr);
  }
}

Json llama_config(const KeyReader& keys, const GgufFile& file) {
  const bool llama = keys.architecture == "llama";
  const bool window = keys.integer("attention.sliding_window", 0) > 0;
  const std::string type = llama && window ? "mistral" : keys.architecture;
  const std::string name = type == "llama"     ? "Llama"
                           : type == "mistral" ? "Mistral"
                           : type == "qwen2"   ? "Qwen2"
                                               : "Qwen3";
  if (keys.integer("expert_count", 0) > 0)
    throw Error(ErrorKind::unsupported, "a mixture of experts", keys.where);
  const int64_t hidden = keys.integer("embedding_length"),
                heads = keys.integer("attention.head_count");
  if (heads < 1)
    throw Error(ErrorKind::failed, "attention.head_count must be positive", keys.where);
  const int64_t head_dim = keys.integer("attention.key_length", hidden / heads);
  const int64_t context = keys.integer("context_length");
  if (keys.integer("attention.value_length", head_dim) != head_dim)
    throw Error(ErrorKind::unsupported, "values of another length than keys", keys.where);
  if (keys.integer("rope.dimension_count", head_dim) != head_dim)
    throw Error(ErrorKind::unsupported, "a partial rotary embedding", keys.where);
  Json config = {{"architectures", Json::array({name + "ForCausalLM"})},
                 {"model_type", type},
                 {"vocab_size", vocabulary_rows(file, keys.where)},
                 {"hidden_size", hidden},
                 {"intermediate_size", keys.integer("feed_forward_length")},
                 {"num_hidden_layers", keys.integer("block_count")},
                 {"num_attention_heads", heads},
                 {"num_key_value_heads", keys.integer("attention.head_count_kv", heads)},
                 {"head_dim", head_dim},
                 {"hidden_act", "silu"},
                 {"max_position_embeddings", context},
                 {"rms_norm_eps", keys.number("attention.layer_norm_rms_epsilon")},
                 {"rope_parameters", rope_of(keys, file, head_dim, context)},
                 {"tie_word_embeddings", file.find("output.weight") == nullptr}};
  const auto biased = [&](const char* tensor) { return file.find(tensor) != nullptr; };
  if (type == "llama" || type == "qwen3") config["attention_bias"] = biased("blk.0.attn_q.bias");
  if (type == "llama") config["mlp_bias"] = biased("blk.0.ffn_gate.bias");
  if (type == "mistral") config["sliding_window"] = keys.integer("attention.sliding_window");
  return config;
}

// Converters of GPT-2 wrote the tied embedding twice: then it is one all the same.
bool gpt2_is_tied(const GgufFile& file) {
  const GgufTensor *table = file.find("token_embd.weight"), *output = file.find("output.weight");
  if (output == nullptr) return true;
  if (output->type != table->type || output->shape != table->shape) return false;
  return std::memcmp(file.bytes(*output).data(), file.bytes(*table).data(),
                     static_cast<size_t>(table->bytes)) == 0;
}

Json gpt2_config(const KeyReader& keys, const GgufFile& file) {
  const int64_t vocab = vocabulary_rows(file, keys.where);
  return {{"architectures", Json::array({"GPT2LMHeadModel"})},
          {"model_type", "gpt2"},
          {"vocab_size", vocab},
          {"n_embd", keys.integer("embedding_length")},
          {"n_inner", keys.integer("feed_forward_length")},
          {"n_layer", keys.integer("block_count")},
          {"n_head", keys.integer("attention.head_count")},
          {"n_positions", keys.integer("context_length")},
          {"n_ctx", keys.integer("context_length")},
          {"layer_norm_epsilon", keys.number("attention.layer_norm_epsilon")},
          {"activation_function", "gelu_new"},
          {"tie_word_embeddings", gpt2_is_tied(file)}};
}

}  // namespace

Json huggingface_config(const GgufFile& file, const std::string& where) {
  const std::string architecture = file.metadata().text("general.architecture", where);
  const KeyReader keys{file.metadata(), architecture, where};
  check_gguf_keys(file.metadata(), architecture, where);
  Json config;
  if (architecture == "gpt2") {
    config = gpt2_config(keys, file);
  } else if (architecture == "llama" || architecture == "qwen2" || architecture == "qwen3") {
    config = llama_config(keys, file);
  } else {
    throw Error(ErrorKind::unsupported, "the architecture '" + architecture + "' is not known",
                where, "known: llama (Mistral too), qwen2, qwen3, gpt2");
  }
  add_token_ids(file.metadata(), where, config);
  return config;
}

}  // namespace qwb
