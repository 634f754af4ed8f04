// The members of a ZIP archive whose members are stored, so that they can be mapped: the form in
// which torch.save writes. Stricter than ZIP allows: what one reader could take for something else
// than another is refused.
#pragma once

#include <map>
#include <string>

#include "lib/base/bytes.h"

namespace qwb {

struct ZipMember {
  int64_t begin = 0, end = 0;  // bytes of the archive
  uint32_t sum = 0;            // CRC-32, as the archive says
};

// By name. Throws `failed` for damage (two headers that tell different things, overlapping
// members), `unsupported` for what is compressed, encrypted or split.
std::map<std::string, ZipMember> parse_zip_index(Bytes archive, const std::string& where);

// Throws `failed` if the member's bytes are not those that its sum was made of. Reads all of it.
void check_zip_sum(Bytes archive, const std::string& name, const ZipMember& member,
                   const std::string& where);

}  // namespace qwb
