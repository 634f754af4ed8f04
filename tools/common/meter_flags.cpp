#include "tools/common/meter_flags.h"

#include <cstdlib>

#include "lib/base/error.h"
#include "tools/common/number_checks.h"

namespace qwb {
namespace {

std::string environment(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : fallback;
}

}  // namespace

void add_meter_flags(CLI::App& app, MeterFlags& flags) {
  app.add_option(
         "--watts", flags.watts,
         "Power of this machine while it works, for the estimate where nothing can be measured")
      ->check(above(0))
      ->type_name("W");
  app.add_option("--meter", flags.meter,
                 "Command that reads an external meter: prints lines like \"56.7 W\" or \"1234 J\" "
                 "(also mW, kW, "
                 "mJ, kJ, Wh, kWh), once or again and again")
      ->type_name("COMMAND");
}

void check_meter_flags(const MeterFlags& flags, bool energy) {
  if ((flags.watts || !flags.meter.empty()) && !energy)
    throw Error(ErrorKind::usage, "--watts and --meter belong to --energy");
}

void apply_meter_flags(const MeterFlags& flags, EnergyOptions& options) {
  options.declared_watts = flags.watts;
  options.meter_command = flags.meter;
  options.powercap = environment("QWB_POWERCAP", options.powercap.string());
  options.nvml_library = environment("QWB_NVML", options.nvml_library);
}

}  // namespace qwb
