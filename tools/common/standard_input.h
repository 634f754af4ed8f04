// Texts that tools read from standard input.
#pragma once

#include <string>

#include "lib/base/stop.h"

namespace qwb {

// All of it, as read_text_file reads a file. Throws interrupted, and what checked_text throws.
std::string read_standard_input(const StopToken& stop);

// A prompt: the file's text, or standard input's for "-", without its final newline.
std::string read_prompt_file(const std::string& file, const StopToken& stop);

}  // namespace qwb
