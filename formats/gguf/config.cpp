// Settings: config.json from a file's keys.
#include <cstring>

#include "formats/gguf/architecture.h"
#include "formats/gguf/rope.h"

namespace qwb {
namespace {

int64_t vocabulary_rows(const GgufFile& file, const std::string& where) {
  const GgufTensor* table = file.find("token_embd.weight");
  if (table == nullptr || table->shape.size() != 2)
    throw Error(ErrorKind::failed, "there is no matrix 'token_embd.weight'", where,
                "the file holds no language model, or is damaged");
  return table->shape[0];
}

void add_token_ids(const GgufMetadata& metadata, const std::string& where, Json& config) {
  for (const char* name : {"bos", "eos"}) {
    const std::string key = std::string("tokenizer.ggml.") + name + "_token_id";
    // null, not absent: absent keys have defaults of their own.
    config[std::string(name) + "_token_id"] =
        metadata.find(key) != nullptr ? Json(metadata.integer(key, where)) : Json(nullptr);
  }
}

// Converters of GPT-2 wrote the tied embedding twice: then it is one all the same.
bool is_tied(const GgufSpec& spec, const GgufFile& file) {
  const GgufTensor *table = file.find("token_embd.weight"), *output = file.find("output.weight");
  if (output == nullptr) return true;
  if (!spec.tied_twice || output->type != table->type || output->shape != table->shape)
    return false;
  return std::memcmp(file.bytes(*output).data(), file.bytes(*table).data(),
                     static_cast<size_t>(table->bytes)) == 0;
}

Json read_setting(const GgufKeyReader& keys, const GgufSetting& setting, const Json& config) {
  if (setting.absent && !keys.has(setting.key)) return setting.absent(config);
  return setting.kind == GgufSetting::Kind::integer ? Json(keys.integer(setting.key))
                                                    : Json(keys.number(setting.key));
}

void take_setting(const GgufKeyReader& keys, const GgufSetting& setting, Json& config) {
  if (setting.config.empty() && setting.refusal.empty()) return;
  const Json value = read_setting(keys, setting, config);
  if (!setting.refusal.empty() && value != setting.absent(config))
    throw Error(ErrorKind::unsupported, setting.refusal, keys.where);
  if (!setting.config.empty()) config[setting.config] = value;
}

}  // namespace

Json huggingface_config(const GgufFile& file, const std::string& where) {
  const Architecture& architecture = architecture_of_gguf(file.metadata(), where);
  const GgufSpec& spec = *architecture.gguf;
  check_gguf_keys(file.metadata(), spec.name, where);
  const GgufKeyReader keys{file.metadata(), spec.name, where};
  keys.head_dim();  // divides by the number of heads, as others below do
  Json config = spec.config;
  config["model_type"] = architecture.name;
  config["vocab_size"] = vocabulary_rows(file, where);
  for (const GgufSetting& setting : spec.settings) take_setting(keys, setting, config);
  if (spec.rope) config["rope_parameters"] = gguf_rope_parameters(keys, file);
  config["tie_word_embeddings"] = is_tied(spec, file);
  for (const GgufSwitch& one : spec.switches) config[one.config] = file.find(one.tensor) != nullptr;
  if (spec.mark) take_setting(keys, *spec.mark, config);
  add_token_ids(file.metadata(), where, config);
  return config;
}

}  // namespace qwb
