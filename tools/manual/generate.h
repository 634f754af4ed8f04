// The flag --generate KIND [PAGE], which --help does not show: what the build makes of a tool's
// declaration.
#pragma once

#include <optional>
#include <string>

#include "tools/manual/manual.h"

namespace qwb {

// The text for `--generate man|page PAGE` or `--generate bash|zsh|fish|json`; nothing for any other
// command line. Throws usage for other kinds and what keeps PAGE from being read.
std::optional<std::string> generated(CLI::App& app, int argc, const char* const* argv,
                                     const ManualHead& head);

}  // namespace qwb
