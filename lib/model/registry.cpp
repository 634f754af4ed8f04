#include "lib/base/error.h"
#include "lib/model/architecture.h"

// Every architecture, in the order of messages: one line each. The file architectures/NAME.cpp, or
// one of its kin, defines NAME_architecture().
#define QWB_ARCHITECTURES(X) \
  X(llama)                   \
  X(mistral)                 \
  X(qwen2)                   \
  X(qwen3)                   \
  X(mixtral)                 \
  X(qwen2_moe)               \
  X(qwen3_moe)               \
  X(olmoe)                   \
  X(gemma2)                  \
  X(gemma3_text)             \
  X(olmo2)                   \
  X(granite)                 \
  X(smollm3)                 \
  X(phi3)                    \
  X(starcoder2)              \
  X(stablelm)                \
  X(glm4)                    \
  X(cohere)                  \
  X(cohere2)                 \
  X(gpt2)                    \
  X(gpt_neox)                \
  X(gptj)                    \
  X(opt)                     \
  X(bloom)                   \
  X(falcon)                  \
  X(mpt)

namespace qwb {

#define QWB_DECLARE_ARCHITECTURE(name) Architecture name##_architecture();
QWB_ARCHITECTURES(QWB_DECLARE_ARCHITECTURE)
#undef QWB_DECLARE_ARCHITECTURE

namespace {

std::deque<Architecture>& all_architectures() {
#define QWB_LIST_ARCHITECTURE(name) name##_architecture(),
  static std::deque<Architecture> all = {QWB_ARCHITECTURES(QWB_LIST_ARCHITECTURE)};
#undef QWB_LIST_ARCHITECTURE
  return all;
}

}  // namespace

const std::deque<Architecture>& architectures() {
  return all_architectures();
}

void add_architecture(Architecture architecture) {
  for (const Architecture& known : architectures()) {
    if (known.name == architecture.name)
      throw Error(ErrorKind::usage, "there is an architecture '" + known.name + "' already");
  }
  all_architectures().push_back(std::move(architecture));
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
