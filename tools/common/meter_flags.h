// What energy is measured with, in every tool that measures it.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "lib/evaluate/energy/options.h"

namespace qwb {

struct MeterFlags {
  std::optional<double> watts;
  std::string meter;
};

// --watts and --meter.
void add_meter_flags(CLI::App& app, MeterFlags& flags);
// Throws usage if they were given without --energy.
void check_meter_flags(const MeterFlags& flags, bool energy);
// Also takes QWB_POWERCAP (a folder in place of /sys/class/powercap, for containers that have it
// elsewhere) and QWB_NVML (a library in place of libnvidia-ml.so.1) from the environment.
void apply_meter_flags(const MeterFlags& flags, EnergyOptions& options);

}  // namespace qwb
