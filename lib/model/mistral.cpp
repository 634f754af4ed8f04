// Mistral: Llama's wiring with a sliding window over all layers (null in v0.2 and later: none).
#include "lib/model/config_fields.h"
#include "lib/model/llama_family.h"

namespace qwb {

Architecture mistral_architecture() {
  return {"mistral",
          [](const Json& config, const std::string& where) {
            ModelConfig out = parse_llama_family(config, where);
            parse_windows(config, where, 0, out);
            return out;
          },
          [](const ModelConfig& config, const TensorSource&) { return llama_family_spec(config, {}); }};
}

}  // namespace qwb
