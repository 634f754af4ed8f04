// Checks of numbers on the command line, with messages that a person can read. None lets NaN or
// infinity pass.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace qwb {

CLI::Validator at_least(double least);
CLI::Validator above(double bound);
CLI::Validator between(double least, double most);
// An option for bytes ("6G", parse_bytes), read while the command line is: empty, zero and nonsense
// are usage.
CLI::Option* add_size(CLI::App& app, const std::string& name, int64_t& bytes,
                      const std::string& help);

}  // namespace qwb
