// Names that people type: in any case, and not always as they are spelled.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qwb {

// ASCII letters in lower case.
std::string lower_case(std::string_view text);
// Equal but for the case of ASCII letters.
bool same_name(std::string_view a, std::string_view b);
// True if the file's name ends so, in any case: ".gguf", ".GGUF".
bool has_suffix(std::string_view file, std::string_view suffix);
// The name that was probably meant: at most a third of its letters, or two, differ.
std::optional<std::string> nearest_name(std::string_view given,
                                        const std::vector<std::string>& names);

}  // namespace qwb
