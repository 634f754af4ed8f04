#include "lib/adapt/use.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "formats/gguf/file.h"
#include "lib/adapt/attach.h"
#include "lib/adapt/bind.h"
#include "lib/adapt/gguf_adapter.h"
#include "lib/adapt/peft_reader.h"
#include "lib/base/error.h"
#include "lib/model/model.h"

namespace qwb {

AdapterUse parse_adapter_use(const std::string& text) {
  std::error_code ignored;
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || std::filesystem::exists(text, ignored)) return {text, 1};
  double weight = 0;
  const char *begin = text.data() + colon + 1, *end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(begin, end, weight);
  if (problem != std::errc() || stop != end || !std::isfinite(weight) || colon == 0)
    throw Error(ErrorKind::usage, "'" + text + "' is no adapter", {},
                "name its folder, or FOLDER:SCALE with a number");
  return {text.substr(0, colon), weight};
}

std::vector<AdapterUse> parse_adapter_uses(const std::vector<std::string>& texts) {
  std::vector<AdapterUse> uses;
  for (const std::string& text : texts) uses.push_back(parse_adapter_use(text));
  return uses;
}

Adapter read_adapter(const Path& place, const Json& base_config, const ModelConfig& config,
                     const ModelSpec& spec) {
  std::error_code ignored;
  if (!std::filesystem::exists(place, ignored))
    throw Error(ErrorKind::not_found, "there is no adapter", place.string());
  if (std::filesystem::is_regular_file(place, ignored)) {
    if (!is_gguf_file(place))
      throw Error(ErrorKind::unsupported, "is no adapter that can be read", place.string(),
                  "name the folder that PEFT wrote, or a GGUF file");
    return read_gguf_adapter(place, base_config, config, spec);
  }
  return bind_peft(read_peft(place), adaptable_modules(config, spec));
}

namespace {

Json use_json(const AdapterUse& use, const Adapter& adapter) {
  int64_t rank = 0;
  for (const AdapterModule& module : adapter.modules) rank = std::max(rank, module.rank);
  return {{"name", use.place.string()},
          {"hash", content_hash(adapter)},
          {"scale", use.weight},
          {"modules", adapter.modules.size()},
          {"rank", rank}};
}

}  // namespace

std::function<Json(const OpenModel& open, Model& model)> adapters_to_attach(
    std::vector<AdapterUse> uses) {
  if (uses.empty()) return nullptr;
  return [uses = std::move(uses)](const OpenModel& open, Model& model) {
    Json told = Json::array();
    for (const AdapterUse& use : uses) {
      const Adapter adapter = read_adapter(use.place, open.config, model.config(), model.spec());
      attach(adapter, static_cast<float>(use.weight), model);
      told.push_back(use_json(use, adapter));
    }
    return told;
  };
}

}  // namespace qwb
