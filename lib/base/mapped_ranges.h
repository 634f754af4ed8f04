// The addresses that belong to mapped files: MappedFile keeps the list, users of the memory ledger
// query it.
#pragma once

#include <cstddef>

namespace qwb {

void note_mapped_range(const void* begin, size_t size);
void forget_mapped_range(const void* begin);
// True if the byte lies in a file mapped by MappedFile.
bool in_mapped_file(const void* at);

}  // namespace qwb
