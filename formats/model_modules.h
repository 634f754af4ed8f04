// Which tensors of a model are weights of linear modules, by its architecture.
#pragma once

#include <map>
#include <string>

#include "formats/model_writer.h"
#include "formats/open_model.h"

namespace qwb {

struct ModelModule {
  TargetModule::Role role = TargetModule::Role::linear;
  Orientation plain = Orientation::out_in;
};

// By name without ".weight": the linear modules of the blocks, the output embedding and the token
// embeddings (one entry, as embedding, where they are tied). Empty for an architecture that this
// build does not know.
std::map<std::string, ModelModule> model_modules(const OpenModel& model);

// The float type of most unquantized values: config.json's dtype, else what most tensors have.
DType model_dtype(const OpenModel& model);

}  // namespace qwb
