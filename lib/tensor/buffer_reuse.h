// Large buffers that come and go: kept and used again instead of given back to the system, which would hand
// them out as pages to be faulted in and cleared one by one (measured in qwb-convert: more than the
// rearranging of what they hold).
#pragma once

namespace qwb {

// From now on buffers of 1 MB and more (AlignedBuffer, Tensor, FloatBuffer) that are freed wait for the next
// of about their size; at most twice the largest of them in all, the others are freed. Only for a process
// that works on one tensor after the other.
void reuse_large_buffers();

}  // namespace qwb
