// The demo's gpt2 (a byte-level tokenizer, no chat template of its own), opened once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/loaded_model.h"
#include "lib/serve/api/service.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb::serve {

const Tokenizer& demo_tokenizer();
// A model of the demo, or of another folder with its tokenizer, with a chat template that writes
// "[role] content" and "[answer]".
ServedModel demo_model(const std::string& name = "gpt2", const Path& folder = {});
// Limits for a few tokens in small pieces.
EngineLimits demo_limits();

}  // namespace qwb::serve
