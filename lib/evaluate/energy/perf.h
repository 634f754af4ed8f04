// Processors' energy counters through perf: <events>/power/{type, cpumask,
// events/energy-pkg[.scale, .unit], events/energy-ram...} (arch/x86/events/rapl.c). 64-bit counts
// that do not wrap in practice. The way in where powercap may be read by root only: needs
// perf_event_paranoid <= 0 or CAP_PERFMON.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/evaluate/energy/energy.h"

namespace qwb {

// One source per package, with its DRAM where there is one. Empty, with the reason and how to grant
// access, unless every package can be read.
std::vector<std::unique_ptr<EnergySource>> perf_sources(const PerfPaths& paths,
                                                        const std::shared_ptr<PerfReader>& reader,
                                                        const Path& cpuinfo,
                                                        std::vector<std::string>& reasons);

}  // namespace qwb
