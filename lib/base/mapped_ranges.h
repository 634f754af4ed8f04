// Which addresses belong to mapped files: MappedFile keeps the list, the memory ledger's users ask.
#pragma once

#include <cstddef>

namespace qwb {

void note_mapped_range(const void* begin, size_t size);
void forget_mapped_range(const void* begin);
// True if the byte lies in a file mapped by MappedFile.
bool in_mapped_file(const void* at);

}  // namespace qwb
