// What --version tells: which build this is, the instruction sets, the libraries.
#pragma once

#include <string>

#include "lib/base/json.h"

namespace qwb {

// "qwb-eval 0.1.0 (isa AVX3_SPR)": for records and keys of caches.
std::string version_line(const std::string& name);
// One line with version, commit and instruction set; then build, instruction sets and libraries, a
// line each.
std::string version_text(const std::string& name);
// {schema: 1, name, version, commit, commit_date, build: {...}, instruction_sets: {...}, libraries:
// {NAME: VERSION}}
Json version_json(const std::string& name);
// "0.1.0", "2026-11-28" (of the commit; empty where it is not known)
std::string version_number();
std::string version_date();

}  // namespace qwb
