// What lies beside a model's weights, or inside its file: tokenizer, chat template, generation
// settings.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "formats/open_model.h"
#include "lib/chat/chat_template.h"
#include "lib/tokenizer/tokenizer.h"

namespace qwb {

// Whether they are inside the model's file (GGUF).
bool has_inner_companions(const OpenModel& open);
// File name -> text, of all companion files (hf/checkpoint.h says which).
std::map<std::string, std::string> companion_texts(const OpenModel& open);
// Writes them into a folder that has none of them yet.
void write_companions(const OpenModel& open, const Path& folder);
// One of them.
std::optional<std::string> companion_text(const OpenModel& open, const std::string& name);
// XXH3-128 (hex) of all names and texts.
std::string companion_hash(const OpenModel& open);

// Throw what Tokenizer::load and ChatTemplate::load throw.
Tokenizer open_tokenizer(const OpenModel& open);
ChatTemplate open_chat_template(const OpenModel& open);

}  // namespace qwb
