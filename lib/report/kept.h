// Results that earlier evaluations kept of a model (lib/evaluate/keeper.h), as records.
#pragma once

#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/evaluate/record.h"

namespace qwb::report {

// A result and its key: Quality::key_of and Evaluation::speed_key define the key's fields.
struct KeptResult {
  Json key;
  Json result;
};

// Records of the model whose content hash is `hash`: one for each text and protocol, one for each
// machine and grid, all with the identity of `model` (artifact, method, sizes). `kept`: newest
// first; the newest of equals counts. source_hash: of the unquantized model, for ratios; may be
// empty. Results that cannot be read are left out: evaluations measure them again. Answers to tasks
// are left out: without the task's file it is not known which are right.
std::vector<Json> kept_records(const EvaluationRecord& model, const std::string& hash,
                               const std::string& source_hash, const std::vector<KeptResult>& kept);

}  // namespace qwb::report
