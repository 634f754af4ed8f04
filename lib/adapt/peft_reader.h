// Reads adapters as PEFT writes them (peft.md).
#pragma once

#include <string>
#include <vector>

#include "lib/adapt/adapter.h"
#include "lib/adapt/bind.h"
#include "lib/adapt/peft_config.h"
#include "lib/base/file.h"

namespace qwb {

// A folder, read whole. The modules have the paths that transformers gives them, until bind_peft()
// gives them the names of a base.
struct PeftAdapter {
  PeftConfig config;
  Adapter adapter;
  Path folder;
};

// Throws not_found, `failed` for damage (a tensor without its partner, shapes that do not fit, NaN,
// no tensor at all), unsupported for what changes the maths and is not implemented, naming it, and
// for adapter_model.bin.
PeftAdapter read_peft(const Path& folder);

// The adapter of this base. Every tensor has a place there, and every module that the settings ask
// for is in the file: throws `failed` otherwise, naming the module and the nearest one.
Adapter bind_peft(PeftAdapter read, const std::vector<AdaptableModule>& modules);

}  // namespace qwb
