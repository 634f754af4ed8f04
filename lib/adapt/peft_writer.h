// Writes adapters as PEFT reads them: a folder with adapter_config.json and
// adapter_model.safetensors (peft.md).
#pragma once

#include <map>
#include <string>

#include "lib/adapt/adapter.h"
#include "lib/base/context.h"
#include "lib/base/file.h"

namespace qwb {

struct PeftOptions {
  // What other readers understand only in part is folded into the factors: one rank for all (filled
  // up with zeros), one scale, no patterns, no rsLoRA.
  bool portable = false;
  bool replace = false;  // a folder that is there and is ours
  // Beside the two files, by name: tokenizer and chat template, records.
  std::map<std::string, std::string> companions = {};
  // The modules' paths in transformers start with this where a checkpoint's names lack it
  // (GPT-2's "transformer."): peft_path_prefix() of bind.h.
  std::string prefix = {};
  bool fan_in_fan_out = false;  // the base's modules are Conv1D (GPT-2)
};

// The folder appears complete or not at all, and what was written is read again before: throws
// verification where a tensor is missing, of another shape or another value. Throws `failed` for an
// adapter without modules, with a module whose B is zero throughout in all modules (it does
// nothing), or with NaN or Inf; usage where a folder is there that may not be replaced.
void write_peft(const Adapter& adapter, const Path& folder, const PeftOptions& options = {},
                const Context& context = {});

}  // namespace qwb
