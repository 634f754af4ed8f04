#include "tools/common/bits_flag.h"

#include "lib/jobs/at_bits.h"
#include "lib/jobs/sources.h"
#include "tools/common/command_line.h"

namespace qwb {

CLI::Option* add_bits_flag(CLI::App& app, int& bits) {
  return app
      .add_option("--bits", bits,
                  "Quantize the original model first, or take what the cache keeps of it: 4 (nf4), "
                  "8 (int8), 16 (as it is, 32-bit weights as bf16) or 32 (as it is)")
      ->check(one_of({"4", "8", "16", "32"}))
      ->type_name("N");
}

ChosenArtifact model_to_run(const std::string& model, int bits, const Context& context) {
  ChosenArtifact chosen;
  if (bits > 0) {
    chosen = model_at_bits(model, bits, context);
  } else if (model.empty()) {
    chosen = choose_artifact(context);
  } else {
    chosen = {model_folder(model, context), nullptr};
  }
  require_model_folder(chosen.folder);
  require_undamaged_if_summed(chosen.folder, context.stop);
  return chosen;
}

}  // namespace qwb
