// What belongs to a whole process and not to one of its jobs: signals, the allocator, OpenMP's
// waiting, spare descriptors. Only a program's main decides on it (the tools: in
// tools/common/tool.cpp); no library does, so that a host program keeps its own settings.
// tests/architecture/process_wide_test.cpp watches over that.
#pragma once

namespace qwb {

// For the first line of main, before anything is opened and any thread is started:
//   - descriptors 0 to 2 that are closed are held, so that no file takes their place
//   - OpenMP's threads sleep instead of spinning for milliseconds. libgomp reads its settings only
//     while it is loaded: the program starts once more, with the same `argv`. An environment that
//     says how to wait (GOMP_SPINCOUNT, OMP_WAIT_POLICY) is left as it is.
//   - freed memory goes back to the system when it is large, and when a phase is over
//     (memory_phase_ended)
//   - signals that end a process request an interrupt instead (interrupt.h); SIGPIPE and SIGXFSZ
//     become errors of the write
//   - keep_spare_descriptors()
void adopt_process_policy(char** argv);

// From now on large buffers that are freed wait for the next of about their size instead of going
// back to the system, which would hand them out as pages to be faulted in and cleared one by one
// (measured in qwb-convert: more than the rearranging of what they hold). At most twice the largest
// of them in all is kept. Only for a process that works on one tensor after the other.
void reuse_large_buffers();

// Keeps two descriptors, and what names of temporaries are made of, for the time when the system
// gives no more of them.
void keep_spare_descriptors() noexcept;

}  // namespace qwb
