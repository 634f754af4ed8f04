// One validation of a model against its config.json, for every format and every tool: open_model()
// runs it.
//
// Every module that the architecture asks for is there, plain or quantized, with its shape and
// every part. Every other tensor is one that cannot change a result, each by a rule with its
// reason; or one that transformers leaves out as well, told in a note; or it would change the
// result, and the model is refused by name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/hf/checkpoint.h"
#include "formats/open_model.h"

namespace qwb {

// Checks, fills `unused`, and unties two embeddings that config.json ties though they differ, as
// transformers does. Returns what is to be told, a sentence each. Reads no weights but those two,
// and biases that the architecture has no place for. Of an architecture that this build does not
// know only leftover parts of quantized weights are found.
//
// Throws not_found for a missing tensor, `failed` for a shape or type that config.json or the other
// parts contradict, unsupported for tensors that would change the result.
std::vector<std::string> check_model(OpenModel& open);

// Checkpoint::open; and where two tied embeddings have one tensor, under the name of the head, it
// is taken for both, as transformers 5 does.
std::shared_ptr<const Checkpoint> open_checkpoint(const Path& folder);

}  // namespace qwb
