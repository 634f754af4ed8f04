#include "tools/common/device_flags.h"

namespace qwb {

void add_device_flag(CLI::App& app, std::string& device, const std::string& what) {
  app.add_option("--device", device,
                 what +
                     ": cpu, cuda or cuda:N (a GPU; qwb-inspect --devices lists them), or auto (a "
                     "GPU if one can be used)")
      ->capture_default_str()
      ->type_name("DEVICE");
}

DeviceChoice chosen_device(const std::string& device, Tool& tool) {
  const ChosenDevice chosen = choose_device(parse_device(device));
  if (!chosen.reason.empty()) tool.note("device: " + chosen.reason);
  return chosen.choice;
}

}  // namespace qwb
