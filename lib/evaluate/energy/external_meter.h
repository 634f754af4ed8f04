// A meter that a command reads: a plug, a board management controller, a laboratory instrument.
//
// The command runs under /bin/sh -c from the first measurement to the end of the program and prints
// one reading a line on its standard output, as it is made: a number, a blank, and its unit. W, mW
// or kW: the power at this moment. J, mJ, kJ, Wh or kWh: a counter's reading, which only rises. It
// either goes on printing, and gets SIGTERM at the end, or prints and ends with exit code 0, and is
// run again. Any other end, and any other line, loses the window.
#pragma once

#include <memory>
#include <string>

#include "lib/evaluate/energy/energy.h"

namespace qwb {

// The source starts the command. `clock` as in EnergyOptions. Throws `failed` if no shell can be
// started.
std::unique_ptr<EnergySource> external_meter(const std::string& command,
                                             std::function<double()> clock);

}  // namespace qwb
