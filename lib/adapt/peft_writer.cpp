#include "lib/adapt/peft_writer.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "formats/safetensors/safetensors.h"
#include "formats/safetensors/sharded_writer.h"
#include "lib/adapt/peft_reader.h"
#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/base/written_files.h"

namespace qwb {
namespace {

constexpr char kStem[] = "base_model.model.";

const AdaptableModule& base_module(const std::string& name,
                                   const std::vector<AdaptableModule>& base) {
  const auto it = std::ranges::find(base, name, &AdaptableModule::name);
  if (it == base.end())
    throw Error(ErrorKind::usage, "the base has no module '" + name + "' to adapt");
  return *it;
}

void check_factors(const Adapter& adapter, const Path& folder) {
  if (adapter.modules.empty())
    throw Error(ErrorKind::failed, "the adapter has no module", folder.string());
  bool any = false;
  for (const AdapterModule& m : adapter.modules) {
    const bool sizes = std::ssize(m.a) == m.rank * m.in && std::ssize(m.b) == m.out * m.rank;
    if (!sizes) throw Error(ErrorKind::failed, "the factors have other sizes", m.module);
    const auto finite = [](float value) { return std::isfinite(value); };
    if (!std::ranges::all_of(m.a, finite) || !std::ranges::all_of(m.b, finite) ||
        !std::isfinite(m.scale))
      throw Error(ErrorKind::failed, "the adapter holds NaN or Inf", m.module);
    any = any || std::ranges::any_of(m.b, [](float value) { return value != 0; });
  }
  if (!any)
    throw Error(ErrorKind::failed, "every B of the adapter is zero: it would do nothing",
                folder.string(), "nothing was learned; it is not saved");
}

// The shortest suffix that names modules of the adapter alone; else the whole path.
std::string target_of(const std::string& path, const std::set<std::string>& adapted,
                      const std::vector<AdaptableModule>& base) {
  for (size_t dot = path.rfind('.'); dot != std::string::npos && dot > 0;
       dot = path.rfind('.', dot - 1)) {
    const std::string end = path.substr(dot);
    const bool alone = std::ranges::all_of(base, [&](const AdaptableModule& module) {
      return !module.path.ends_with(end) || adapted.contains(module.path);
    });
    if (alone) return end.substr(1);
  }
  return path;
}

Json whole_if_possible(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15 ? Json(static_cast<int64_t>(value))
                                                              : Json(value);
}

// alpha for which the module's scale comes out.
double alpha_for(const AdapterModule& m, bool rslora) {
  const auto r = static_cast<double>(m.rank);
  return static_cast<double>(m.scale) * (rslora ? std::sqrt(r) : r);
}

Json config_json(const Adapter& adapter, const std::vector<std::string>& paths,
                 const std::vector<AdaptableModule>& base) {
  const AdapterSettings& s = adapter.settings;
  const std::set<std::string> adapted(paths.begin(), paths.end());
  std::set<std::string> targets;
  Json ranks = Json::object(), alphas = Json::object();
  bool conv1d = false;
  for (size_t i = 0; i < paths.size(); ++i) {
    const AdapterModule& m = adapter.modules[i];
    targets.insert(target_of(paths[i], adapted, base));
    if (m.rank != s.rank) ranks[paths[i]] = m.rank;
    if (adapter_scale(s.alpha, m.rank, s.rslora) != m.scale)
      alphas[paths[i]] = whole_if_possible(alpha_for(m, s.rslora));
    conv1d = conv1d || base_module(m.module, base).orientation == Orientation::in_out;
  }
  return {{"alpha_pattern", alphas},
          {"base_model_name_or_path", s.base.empty() ? Json(nullptr) : Json(s.base)},
          {"bias", "none"},
          {"fan_in_fan_out", conv1d},
          {"inference_mode", true},
          {"init_lora_weights", true},
          {"lora_alpha", whole_if_possible(s.alpha)},
          {"lora_dropout", s.dropout},
          {"modules_to_save", nullptr},
          {"peft_type", "LORA"},
          {"r", s.rank},
          {"rank_pattern", ranks},
          {"revision", s.revision.empty() ? Json(nullptr) : Json(s.revision)},
          {"target_modules", targets},
          {"task_type", "CAUSAL_LM"},
          {"use_dora", false},
          {"use_rslora", s.rslora}};
}

void write_factors(const Adapter& adapter, const std::vector<std::string>& paths,
                   const Path& file) {
  std::vector<PartSpec> specs;
  for (size_t i = 0; i < paths.size(); ++i) {
    const AdapterModule& m = adapter.modules[i];
    specs.push_back({kStem + paths[i] + ".lora_A.weight", DType::f32, {m.rank, m.in}});
    specs.push_back({kStem + paths[i] + ".lora_B.weight", DType::f32, {m.out, m.rank}});
  }
  SafetensorsWriter writer(file, specs);
  for (size_t i = 0; i < paths.size(); ++i) {
    const AdapterModule& m = adapter.modules[i];
    writer.put(specs[2 * i].name, std::as_bytes(std::span(m.a)));
    writer.put(specs[2 * i + 1].name, std::as_bytes(std::span(m.b)));
  }
  writer.finish();
}

// What lies on the disk is what was to be written.
void verify(const Adapter& adapter, const std::vector<std::string>& paths, const Path& folder) {
  const Adapter found = read_peft(folder).adapter;
  bool same = found.modules.size() == adapter.modules.size();
  for (size_t i = 0; same && i < paths.size(); ++i) {
    const AdapterModule& m = adapter.modules[i];
    const auto it = std::ranges::find(found.modules, paths[i], &AdapterModule::module);
    same = it != found.modules.end() && it->rank == m.rank && it->scale == m.scale &&
           it->a == m.a && it->b == m.b;
  }
  if (!same)
    throw Error(ErrorKind::verification, "the adapter on the disk is not what was written",
                folder.string(), "the disk may be failing");
}

}  // namespace

Adapter portable(Adapter adapter) {
  int64_t rank = 0;
  for (const AdapterModule& m : adapter.modules) rank = std::max(rank, m.rank);
  for (AdapterModule& m : adapter.modules) {
    std::vector<float> b(static_cast<size_t>(m.out * rank));
    for (int64_t o = 0; o < m.out; ++o) {
      for (int64_t k = 0; k < m.rank; ++k) b[o * rank + k] = m.b[o * m.rank + k] * m.scale;
    }
    m.b = std::move(b);
    m.a.resize(static_cast<size_t>(rank * m.in));
    m.rank = rank;
    m.scale = 1;
  }
  adapter.settings.rank = rank;
  adapter.settings.alpha = static_cast<double>(rank);
  adapter.settings.rslora = false;
  return adapter;
}

void write_peft(const Adapter& given, const Path& folder, const PeftOptions& options,
                const Context& context) {
  const Adapter folded = options.portable ? portable(given) : Adapter();
  const Adapter& adapter = options.portable ? folded : given;
  check_factors(adapter, folder);
  if (!adapter.replaced.empty())
    throw Error(ErrorKind::unsupported,
                "an adapter that replaces '" + adapter.replaced.begin()->first +
                    "' as a whole is not written",
                folder.string(), "merge it into its base (qwb-merge)");
  std::vector<std::string> paths;
  for (const AdapterModule& m : adapter.modules)
    paths.push_back(base_module(m.module, options.base).path);
  PendingFolder pending(folder, context.stop);
  write_factors(adapter, paths, pending.path() / "adapter_model.safetensors");
  const Json config = config_json(adapter, paths, options.base);
  write_file(pending.path() / "adapter_config.json", json_text(config));
  for (const auto& [name, text] : options.companions) {
    std::filesystem::create_directories((pending.path() / name).parent_path());
    write_file(pending.path() / name, text);
  }
  verify(adapter, paths, pending.path());
  write_file(pending.path() / kWrittenFiles,
             written_files_text(hash_files(pending.path(), context)));
  if (!pending.commit(options.replace))
    throw Error(ErrorKind::usage, "the folder exists", folder.string(),
                "choose another place, or let it be replaced");
}

}  // namespace qwb
