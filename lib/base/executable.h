// Where the running program lies: what was installed with it is found from there.
#pragma once

#include "lib/base/file.h"

namespace qwb {

// The path of the running program; empty where nothing tells it.
Path executable_path();

}  // namespace qwb
