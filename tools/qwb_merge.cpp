// qwb-merge: adapters become part of a model, or one adapter.
#include <memory>

#include "formats/hf/checkpoint.h"
#include "formats/qwb/artifact.h"
#include "lib/adapt/use.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/sources.h"
#include "tools/common/tool.h"
#include "tools/manual/declaration.h"
#include "tools/merge/make.h"
#include "tools/merge/options.h"

namespace qwb {
namespace {

constexpr const char* kMergeExamples =
    "Examples:\n"
    "  qwb-merge --model ./llama --adapter ./tuned --out ./llama-tuned\n"
    "  qwb-merge --model ./llama-nf4 --adapter ./tuned --onto dequantized --dtype f32 --out ./m\n"
    "  qwb-merge --model ./llama-nf4 --adapter ./tuned --then 'gptq --bits 4 --calib demo' --out "
    "./m-gptq\n"
    "  qwb-merge --model ./llama --adapter ./a:0.5 --adapter ./b:0.5 --combine exact --out ./ab\n"
    "  qwb-merge --model ./llama --extract ./llama-tuned --rank 32 --out ./adapter\n"
    "  qwb-merge --model ./llama --adapter ./tuned --to gguf --out tuned.gguf\n"
    "The path of what was made is the only thing on standard output.";

int run_merge(const MergeOptions& o, Tool& tool) {
  if (tool.dry_run()) keep_no_memos();
  check_merge_options(o);
  const Path model = choose_model(o.model, tool.context());
  if (!tool.dry_run()) require_undamaged_if_summed(model, tool.context().stop);
  tool.reads(model);
  for (const AdapterUse& use : parse_adapter_uses(o.adapters)) tool.reads(use.place);
  return o.makes_adapter() ? make_adapter(o, model, tool) : make_merged_model(o, model, tool);
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {.name = "qwb-merge",
                              .summary =
                                  "Merges LoRA adapters into a model, and tells what that "
                                  "keeps; combines, extracts and converts adapters.",
                              .examples = qwb::kMergeExamples,
                              .has_dry_run = true,
                              .writes = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::MergeOptions>();
    qwb::add_merge_options(app, *options);
    return [options, &tool] { return qwb::run_merge(*options, tool); };
  });
}
