// How every tool reads its command line: the last of a repeated option wins, names of values in any
// case, help that fits a terminal, and mistakes told with what was probably meant.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace qwb {

inline constexpr size_t kHelpWidth = 100;  // columns

// To be called once all options are there.
void set_manners(CLI::App& app);
// One of these words, in any case; what is stored is the word as it stands here.
CLI::Validator one_of(const std::vector<std::string>& words);
// What is wrong with the command line, for one line of text.
std::string parse_problem(const CLI::App& app, const CLI::ParseError& error);
// The help, no line of it longer than kHelpWidth.
std::string help_text(const CLI::App& app);

}  // namespace qwb
