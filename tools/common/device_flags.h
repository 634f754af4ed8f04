// --device: the processor or a GPU.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "lib/exec/devices.h"
#include "tools/common/tool.h"

namespace qwb {

void add_device_flag(CLI::App& app, std::string& device);
// What it names, nothing left open; what was taken, and why, is said on stderr. Throws what
// parse_device() and choose_device() throw.
DeviceChoice chosen_device(const std::string& device, Tool& tool);

}  // namespace qwb
