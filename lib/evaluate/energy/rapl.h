// Intel and AMD processors through Linux powercap: /sys/class/powercap/intel-rapl:N[:M]/{name,
// energy_uj, max_energy_range_uj} (Documentation/power/powercap/powercap.rst). Zones are known by
// their name, not by their number.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/evaluate/energy/energy.h"

namespace qwb {

// One source per package ("package-0", "package-1-die-0"), with its DRAM zone where there is one.
// Zones that a package contains (core, uncore) or that contain it (psys) are not counted, nor is a
// package's second appearance through another interface (MMIO beside MSR). A package that cannot be
// read gives a reason instead of a figure, with how to grant access. Without any package the result
// is empty, and `reasons` says why.
std::vector<std::unique_ptr<EnergySource>> rapl_sources(const Path& powercap, const Path& cpuinfo,
                                                        std::vector<std::string>& reasons);

}  // namespace qwb
