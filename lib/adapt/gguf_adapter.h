// Adapters as llama.cpp has them: one GGUF file (peft.md tells its names).
#pragma once

#include <string>

#include "lib/adapt/adapter.h"
#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb {

struct ModelConfig;
struct ModelSpec;

// With the names of the base. Throws `failed` for damage, a module that the base does not have and
// shapes that do not fit; unsupported for another architecture, and for norms and embeddings.
Adapter read_gguf_adapter(const Path& file, const Json& base_config, const ModelConfig& config,
                          const ModelSpec& spec);

// Appears complete or not at all. What the format cannot say (rsLoRA, scales that differ) is folded
// into B. Throws unsupported for a base that GGUF cannot hold, and for adapters that replace
// tensors; usage where a file is there and not to be replaced.
void write_gguf_adapter(const Adapter& adapter, const Json& base_config, const ModelConfig& config,
                        const Path& file, bool replace);

}  // namespace qwb
