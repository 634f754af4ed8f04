// The memory of AlignedBuffer, and so of Tensor and FloatBuffer.
#pragma once

#include <cstddef>

namespace qwb {

// Aligned to 64 bytes, uninitialised; large ones ask the system for huge pages. Throws
// std::bad_alloc.
void* allocate_buffer(size_t size);
// Kept for the next allocation where the program's policy says so (large_buffers_are_reused).
void free_buffer(void* buffer);

}  // namespace qwb
