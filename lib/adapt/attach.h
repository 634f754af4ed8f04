// An adapter at work beside a model whose weights stay as they are.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/adapt/adapter.h"
#include "lib/model/low_rank.h"
#include "lib/model/model.h"

namespace qwb {

struct AttachedModule {
  std::string module;
  std::shared_ptr<LowRank> factors;  // in the executor's memory; the model reads them
};

// Adds every module of the adapter, times `weight`, to the model's, which nobody shares yet. The
// adapter's names are the model's (bind.h). Throws unsupported for an adapter that replaces
// tensors: the model has read them already.
std::vector<AttachedModule> attach(const Adapter& adapter, float weight, Model& model);

}  // namespace qwb
