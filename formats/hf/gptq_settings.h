// The quantization_config of GPTQ: what it says of all modules, and of one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "lib/base/json.h"

namespace qwb {

inline constexpr char kGptqWhere[] = "quantization_config (GPTQ)";

// Of one module, or of most.
struct GptqFolderSettings {
  int64_t bits = 0;
  int64_t group_size = 0;   // -1: the row
  bool group_told = false;  // or the default is taken
  std::optional<bool> symmetric;
  bool ordered = false;  // desc_act is said to be false: groups are runs of columns
  bool v2 = false;
  bool quantized = true;  // no override takes the module out
};

// Throws unsupported for a key or value that could change what the tensors mean.
void check_gptq_settings(const Json& settings);
// Of most modules.
GptqFolderSettings gptq_settings(const Json& settings);
// With what "dynamic" says of this module: the first pattern that matches counts, "-:" takes the
// module out.
GptqFolderSettings gptq_settings(const Json& settings, const std::string& module);

}  // namespace qwb
