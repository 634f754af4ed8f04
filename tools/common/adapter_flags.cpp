#include "tools/common/adapter_flags.h"

namespace qwb {

void add_adapter_flag(CLI::App& app, std::vector<std::string>& adapters) {
  app.add_option(
         "--adapter", adapters,
         "A LoRA adapter that runs beside the model, exactly: a folder as PEFT writes it, or "
         "a GGUF file; DIR:SCALE multiplies what it adds; may be repeated")
      ->type_name("DIR[:SCALE]")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

}  // namespace qwb
