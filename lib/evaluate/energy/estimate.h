// A figure for machines whose counters cannot be read: a model, always labelled "estimated".
#pragma once

#include <memory>
#include <optional>

#include "lib/evaluate/energy/energy.h"

namespace qwb {

// Watts of one busy logical processor with its share of caches and memory: CodeCarbon's constant
// for processors it does not know; servers and laptops lie between 2 and 8.
inline constexpr double kWattsPerBusyProcessor = 4;

// With declared watts W: W x seconds of the window. Else: CPU seconds of this process x
// kWattsPerBusyProcessor.
std::unique_ptr<EnergySource> estimate_source(std::optional<double> declared_watts,
                                              const Path& cpuinfo);

}  // namespace qwb
