// What one run of work is given: its threads, who may stop it, and whom it tells how far it is.
// Passed along explicitly, from whoever starts a job down to its loops, so that jobs in one process
// do not notice each other; nothing of it is global or belongs to a thread.
#pragma once

#include "lib/base/progress.h"
#include "lib/base/stop.h"
#include "lib/base/threads.h"

namespace qwb {

// Copied freely; the progress must outlive the copies. As it stands: all processors, never stopped,
// silent.
struct Context {
  Threads threads = {};
  StopToken stop = {};
  Progress* progress = &silent_progress();  // never null

  // The same, telling nobody.
  Context silent() const { return {threads, stop}; }
};

}  // namespace qwb
