#include <fmt/format.h>

#include "formats/gguf/file.h"
#include "formats/registry.h"
#include "lib/adapt/gguf_adapter.h"
#include "lib/adapt/peft_writer.h"
#include "lib/base/names.h"
#include "lib/jobs/choose.h"
#include "lib/jobs/merge_job.h"
#include "lib/jobs/sources.h"
#include "lib/model/architecture.h"
#include "tools/merge/make.h"

namespace qwb {
namespace {

CombinedAdapter made_adapter(const MergeJob& job, const MergeOptions& o, Tool& tool) {
  if (!o.extract.empty()) {
    const Path tuned = model_folder(o.extract, tool.context());
    require_model_folder(tuned);
    tool.reads(tuned);
    const OpenModel open = open_model(tuned, tool.context());
    return extracted(*job.base().source, *open.source, job.base_modules(), o.rank, tool.context());
  }
  if (o.combine == "svd") return truncated(job.adapters(), o.rank, tool.context());
  if (o.combine.empty() && job.adapters().size() == 1 && job.adapters().front().weight == 1)
    return {job.adapters().front().adapter};
  return {stacked(job.adapters())};
}

void log_energy(const std::vector<KeptEnergy>& kept, Tool& tool) {
  if (kept.empty()) return;
  double part = 0, all = 0;
  const KeptEnergy* least = &kept.front();
  for (const KeptEnergy& one : kept) {
    part += one.share * one.norm * one.norm, all += one.norm * one.norm;
    if (one.share < least->share) least = &one;
  }
  tool.note(fmt::format("{} modules; the rank keeps {:.3f} % of the energy (least: {} {:.2f} %)",
                        kept.size(), all > 0 ? 100 * part / all : 100, least->module,
                        100 * least->share));
}

}  // namespace

int make_adapter(const MergeOptions& o, const Path& model, Tool& tool) {
  const std::string to = o.to.empty() ? "peft" : lower_case(o.to);
  const bool gguf = to == "gguf";
  const Path place = gguf ? tool.outputs().file(o.out, "--out", is_gguf_file)
                          : tool.outputs().folder(o.out, "--out");
  const MergeJob job(
      {.model = model, .adapters = parse_adapter_uses(o.adapters), .onto = "dequantized"},
      tool.context());
  CombinedAdapter made = made_adapter(job, o, tool);
  Adapter& adapter = made.adapter;
  if (adapter.settings.base.empty()) adapter.settings.base = model.string();
  log_energy(made.kept, tool);
  const bool force = tool.outputs().force();
  if (!tool.dry_run() && gguf) {
    const std::string where = job.base().config_name();
    const ModelConfig config = parse_config(job.base().config, where);
    write_gguf_adapter(o.portable ? portable(adapter) : adapter, job.base().config, config, place,
                       force);
  } else if (!tool.dry_run()) {
    write_peft(adapter, place,
               {.base = job.base_modules(), .portable = o.portable, .replace = force},
               tool.context());
  }
  tool.note(fmt::format("{} modules, {} values", adapter.modules.size(), adapter.values()));
  Json json = {{"schema", 1},
               {"folder", tool.dry_run() ? Json(nullptr) : Json(o.out)},
               {"format", to},
               {"hash", content_hash(adapter)},
               {"values", adapter.values()},
               {"modules", Json::array()}};
  for (size_t i = 0; i < adapter.modules.size(); ++i) {
    Json entry = {{"name", adapter.modules[i].module}, {"rank", adapter.modules[i].rank}};
    if (i < made.kept.size()) entry["kept_energy"] = made.kept[i].share;
    json["modules"].push_back(std::move(entry));
  }
  if (tool.json()) {
    tool.print(json.dump() + "\n");
  } else if (!tool.dry_run()) {
    tool.print(o.out + "\n");
  }
  return 0;
}

}  // namespace qwb
