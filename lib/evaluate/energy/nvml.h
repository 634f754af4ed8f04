// NVIDIA GPUs through NVML, opened at run time: the program needs no CUDA to be built or to start.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/evaluate/energy/energy.h"

namespace qwb {

// One source per GPU: the total energy counter (millijoules since the driver was loaded, Volta and
// newer); where it is not supported, does not move or makes no sense, the integral of the power
// readings (trapezoids). GPUs divided by MIG are left out: the counter is the whole card's. No
// library, no driver or no GPU: empty, with the reason unless the machine simply has no NVIDIA
// software.
std::vector<std::unique_ptr<EnergySource>> nvml_sources(const std::string& library,
                                                        std::vector<std::string>& reasons);

// "integrated power gives 660 J, +10.0 %": a remark on a figure whose two ways of counting differ
// by more than 5 %, in a window of at least 5 seconds; else empty.
std::string power_disagreement(const EnergyFigure& figure);

}  // namespace qwb
