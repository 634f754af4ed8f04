// Which modules of a model adapters can be of, and what names other programs give them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/adapt/adapter.h"
#include "lib/codec/encoding.h"

namespace qwb {

struct ModelConfig;
struct ModelSpec;

// A linear module of the base.
struct AdaptableModule {
  std::string name;  // in the checkpoint, without ".weight"
  std::string path;  // in transformers: what PEFT's patterns are matched with
  int64_t out = 0, in = 0;
  Orientation orientation = Orientation::out_in;
  bool head = false;  // the output embedding
};

// What transformers' module paths start with where this checkpoint's names do not ("transformer."
// of some GPT-2 checkpoints); empty: the names are the paths.
std::string peft_path_prefix(const ModelConfig& config, const ModelSpec& spec);

// In the model's order: the blocks' modules, then the output embedding (in a tied model by the
// embedding's name, its path is lm_head).
std::vector<AdaptableModule> adaptable_modules(const ModelConfig& config, const ModelSpec& spec);

// Gives modules and replaced tensors, called by their paths in transformers, their names in the
// checkpoint. Throws `failed`, naming the nearest module, for one that the base does not have, and
// for one of another shape.
Adapter bind_to_base(Adapter adapter, const std::vector<AdaptableModule>& modules,
                     const std::string& where);

}  // namespace qwb
