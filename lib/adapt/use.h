// Adapters as people name them, put to work beside a base.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "formats/open_model.h"
#include "lib/adapt/adapter.h"
#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb {

class Model;
struct ModelConfig;
struct ModelSpec;

struct AdapterUse {
  Path place;         // a folder as PEFT writes it, or a GGUF file
  double weight = 1;  // of what it adds
};

// "PLACE" or "PLACE:WEIGHT". Throws usage for what is neither.
AdapterUse parse_adapter_use(const std::string& text);
std::vector<AdapterUse> parse_adapter_uses(const std::vector<std::string>& texts);

// The adapter of this base, read whole, with the base's own names. Throws what read_peft,
// bind_peft and read_gguf_adapter throw.
Adapter read_adapter(const Path& place, const Json& base_config, const ModelConfig& config,
                     const ModelSpec& spec);

// For LoadOptions::attach: adds these adapters, one after the other; empty where there are none. It
// gives [{name, hash, scale, modules, rank}]: hash is the adapter's content_hash().
std::function<Json(const OpenModel& open, Model& model)> adapters_to_attach(
    std::vector<AdapterUse> uses);

}  // namespace qwb
