// --device: the processor or a GPU.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "lib/exec/devices.h"
#include "tools/common/tool.h"

namespace qwb {

// what: runs on the device.
void add_device_flag(CLI::App& app, std::string& device,
                     const std::string& what = "What the model runs on");
// What it names, nothing left open; what was taken, and why, is said on stderr. Throws what
// parse_device() and choose_device() throw.
DeviceChoice chosen_device(const std::string& device, Tool& tool);

}  // namespace qwb
