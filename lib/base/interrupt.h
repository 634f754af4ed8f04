// Ctrl-C as an exception: a signal handler sets a flag, long loops ask for it, destructors clean up.
#pragma once

namespace qwb {

// Async-signal-safe.
void request_interrupt();
bool interrupt_requested();
// Throws Error{interrupted} if an interrupt was requested. Cheap enough for inner loops of a millisecond or
// more.
void check_interrupt();
// For tests.
void clear_interrupt();

}  // namespace qwb
