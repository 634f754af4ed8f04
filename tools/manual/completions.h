// Completions of the command line for three shells: commands, flags, values that are known words,
// and paths.
#pragma once

#include <string>

#include "tools/manual/declaration.h"

namespace qwb {

std::string bash_completion(
    const Declaration& declaration);  // share/bash-completion/completions/NAME
std::string zsh_completion(const Declaration& declaration);  // share/zsh/site-functions/_NAME
std::string fish_completion(
    const Declaration& declaration);  // share/fish/vendor_completions.d/NAME.fish

}  // namespace qwb
