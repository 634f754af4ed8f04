// Settings: a file's keys from config.json.
#include <algorithm>

#include "formats/gguf/architecture.h"
#include "formats/gguf/rope.h"

namespace qwb {
namespace {

void add_setting(const GgufSetting& setting, const ModelConfig& config, const std::string& prefix,
                 GgufMetadata& metadata) {
  const Json value = setting.value ? setting.value(config) : Json();
  if (value.is_null()) return;
  metadata.add(prefix + setting.key, setting.kind == GgufSetting::Kind::integer
                                         ? GgufValue::of_u32(value.get<int64_t>())
                                         : GgufValue::of_f32(value.get<double>()));
}

void tell_of_window(const ModelConfig& c, const Context& context) {
  const int64_t window = c.window.empty() ? 0 : *std::max_element(c.window.begin(), c.window.end());
  if (window > 0 && window < c.max_positions)
    context.progress->note("llama.cpp does not apply the sliding window of " +
                           std::to_string(window) + " tokens: longer texts will differ there");
}

}  // namespace

void add_gguf_settings(const GgufSpec& spec, const ModelConfig& config, const std::string& where,
                       GgufMetadata& metadata, const Context& context) {
  const std::string obstacle = spec.obstacle ? spec.obstacle(config) : "";
  if (!obstacle.empty())
    throw Error(ErrorKind::unsupported, obstacle + " has no place in GGUF", where,
                "llama.cpp would compute something else");
  const std::string prefix = spec.name + ".";
  for (const GgufSetting& setting : spec.settings) add_setting(setting, config, prefix, metadata);
  if (spec.rope) add_gguf_rope(config, where, prefix, metadata);
  if (spec.mark) add_setting(*spec.mark, config, prefix, metadata);
  tell_of_window(config, context);
}

}  // namespace qwb
