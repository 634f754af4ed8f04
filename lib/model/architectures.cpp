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
  return find_architecture(json_string(config, "model_type", where), where).parse(config, where);
}

}  // namespace qwb
