// Reads the includes of this tree's files.
#pragma once

#include <string>

namespace qwb {

// The path between the quotes of an #include "..." line; empty for any other line.
inline std::string quoted_include(const std::string& line) {
  const size_t hash = line.find_first_not_of(" \t");
  if (hash == std::string::npos || line[hash] != '#') return {};
  const size_t word = line.find_first_not_of(" \t", hash + 1);
  if (word == std::string::npos || line.compare(word, 7, "include") != 0) return {};
  const size_t begin = line.find('"', word), end = line.find('"', begin + 1);
  return begin == std::string::npos || end == std::string::npos
             ? std::string()
             : line.substr(begin + 1, end - begin - 1);
}

}  // namespace qwb
