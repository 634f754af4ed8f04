// The memory of AlignedBuffer, and so of Tensor and FloatBuffer.
#pragma once

#include <cstddef>

namespace qwb {

// Aligned to 64 bytes, uninitialised; large ones ask the system for huge pages. Throws
// std::bad_alloc.
void* allocate_buffer(size_t size);
void free_buffer(void* buffer);

// From now on large buffers that are freed wait for the next of about their size instead of going
// back to the system, which would hand them out as pages to be faulted in and cleared one by one
// (measured in qwb-convert: more than the rearranging of what they hold). At most twice the largest
// of them in all is kept. Only for a process that works on one tensor after the other.
void reuse_large_buffers();

}  // namespace qwb
