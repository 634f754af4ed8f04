// Writes adapters as PEFT reads them: a folder with adapter_config.json and
// adapter_model.safetensors (peft.md).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "lib/adapt/adapter.h"
#include "lib/adapt/bind.h"
#include "lib/base/context.h"
#include "lib/base/file.h"

namespace qwb {

struct PeftOptions {
  // All modules of the base (adaptable_modules()): they tell the paths in transformers, and which
  // suffixes name exactly the adapter's modules.
  std::vector<AdaptableModule> base;
  // What other readers understand only in part is folded into the factors: one rank for all (filled
  // up with zeros), scale 1, no patterns, no rsLoRA.
  bool portable = false;
  bool replace = false;  // a folder that is there and is ours
  // Beside the two files, by name ("file", "folder/file"): tokenizer and chat template, records.
  std::map<std::string, std::string> companions = {};
};

// The folder appears complete or not at all, and what was written is read again before: throws
// verification where that differs. Throws `failed` for an adapter without modules, for one whose B
// are all zero (it does nothing) and for NaN or Inf; usage where a folder is there that may not be
// replaced, and for a module that the base does not have.
void write_peft(const Adapter& adapter, const Path& folder, const PeftOptions& options,
                const Context& context = {});

// The same factors with one rank and scale 1, so that nothing but plain LoRA is asked of a reader.
Adapter portable(Adapter adapter);

}  // namespace qwb
