// What an energy meter reads, and what it is told.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "lib/base/file.h"

namespace qwb {

class PerfReader;

struct PerfPaths {
  Path events = "/sys/bus/event_source/devices";
  Path processors = "/sys/devices/system/cpu";
  Path paranoid = "/proc/sys/kernel/perf_event_paranoid";
};

struct EnergyOptions {
  std::optional<double> declared_watts;   // --watts: of the machine while it works
  std::string meter_command;              // --meter: external_meter.h; empty: none
  Path powercap = "/sys/class/powercap";  // other folders and libraries: for tests
  PerfPaths perf;
  std::shared_ptr<PerfReader> perf_reader;  // default: the kernel's
  Path cpuinfo = "/proc/cpuinfo";
  std::string nvml_library = "libnvidia-ml.so.1";  // "" to leave GPUs alone
  std::function<double()> clock;                   // default: the steady clock
};

}  // namespace qwb
