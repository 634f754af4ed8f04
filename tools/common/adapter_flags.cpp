#include "tools/common/adapter_flags.h"

namespace qwb {

void add_adapter_flag(CLI::App& app, std::vector<std::string>& adapters) {
  add_adapter_flag(app, adapters,
                   "A LoRA adapter that runs beside the model, exactly: a folder as PEFT writes "
                   "it, or a GGUF file; DIR:SCALE multiplies what it adds; may be repeated",
                   "DIR[:SCALE]");
}

void add_adapter_flag(CLI::App& app, std::vector<std::string>& adapters, const std::string& help,
                      const std::string& value) {
  app.add_option("--adapter", adapters, help)
      ->type_name(value)
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

}  // namespace qwb
