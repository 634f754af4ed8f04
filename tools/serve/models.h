// The models that qwb-serve opens, and the memory that they and their texts take.
#pragma once

#include <vector>

#include "lib/serve/api/served_model.h"
#include "tools/common/tool.h"
#include "tools/serve/options.h"

namespace qwb {

// In the order of the command line; without any, the one that choose_artifact() gives. Throws usage
// for two of one name.
std::vector<serve::ServedModel> open_models(const ServeOptions& o, Tool& tool);
// Decides on the memory for keys and values, and on every model's context.
void plan_models(std::vector<serve::ServedModel>& models, ServeOptions& o);
// --dry-run: tells it. The exit code.
int tell_plan(const std::vector<serve::ServedModel>& models, const ServeOptions& o, Tool& tool);

}  // namespace qwb
