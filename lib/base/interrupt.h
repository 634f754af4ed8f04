// Ctrl-C as an exception: a signal handler requests a stop, long loops look at their tokens,
// destructors clean up.
#pragma once

#include "lib/base/stop.h"

namespace qwb {

// SIGINT, SIGTERM, SIGHUP and every other signal whose default is to end the process request an
// interrupt from now on; a second one, at least a tenth of a second later, ends the process at once
// with 130. Signals that were ignored stay ignored (nohup), except for SIGINT and SIGTERM. The
// handler runs on a stack of its own: oneDNN's generated products use the stack pointer for their
// heap memory, and a handler that the system starts there writes over its neighbours (seen in 2.6
// with every signal that met sgemm).
void interrupt_on_signals();
// The calling thread, a worker, gets none of them: it has no such stack.
void leave_signals_to_main_thread();

// Async-signal-safe.
void request_interrupt();
// What the signals ask to stop: a program hands it to its jobs. It is the only thing here that a
// whole process shares, and no library looks at it by itself.
StopToken interrupt_token();

// For a program that talks with its user, in which Ctrl-C stops an answer: from now on SIGINT,
// however often it comes, requests an interrupt and no more. Other signals end the process as
// before.
void let_sigint_only_interrupt();
// Whether a signal asked the process to end.
bool end_requested();
// Takes back the interrupt that SIGINT requested; that of a signal which ends the process stays.
void forget_sigint();

// For tests.
void clear_interrupt();

}  // namespace qwb
