#include "lib/base/error.h"
#include "lib/model/architecture.h"

namespace qwb {

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> all = {
      llama_architecture(),   mistral_architecture(), qwen2_architecture(), qwen3_architecture(),
      mixtral_architecture(), gemma2_architecture(),  gpt2_architecture()};
  return all;
}

const Architecture& find_architecture(std::string_view model_type, const std::string& where) {
  std::string known;
  for (const Architecture& architecture : architectures()) {
    if (architecture.name == model_type) return architecture;
    known += (known.empty() ? "" : ", ") + architecture.name;
  }
  throw Error(ErrorKind::unsupported, "architecture '" + std::string(model_type) + "' is not known",
              where, "this build runs: " + known);
}

ModelConfig parse_config(const Json& config, const std::string& where) {
  // Python takes null, 0 and an empty text for false too.
  if (const auto causal = config.find("is_causal"); causal != config.end()) {
    if (causal->is_null() || causal->empty() || *causal == false || *causal == 0 || *causal == "")
      throw Error(ErrorKind::unsupported,
                  "'is_causal' is false: attention in both directions is not supported", where,
                  "such models embed texts, they do not continue them");
  }
  return find_architecture(json_string(config, "model_type", where), where).parse(config, where);
}

}  // namespace qwb
