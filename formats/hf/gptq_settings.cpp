#include "formats/hf/gptq_settings.h"

#include <initializer_list>

#include "formats/hf/quantization_settings.h"
#include "lib/base/error.h"

namespace qwb {
namespace {

constexpr SettingRule kGptqRules[] = {
    {"quant_method", "gptq"},
    {"method", "gptq"},
    {"bits", ""},
    {"w_bit", ""},
    {"wbits", ""},
    {"group_size", ""},
    {"q_group_size", ""},
    {"checkpoint_format", "gptq|gptq_v2"},
    {"format", "gptq|gptq_v2"},
    {"version", "gptq|gptq_v2"},
    {"sym", ""},
    {"zero_point", ""},
    {"dynamic", ""},
    {"desc_act", ""},
    {"act_order", ""},
    {"backend", ""},  // a kernel's name
    {"is_marlin_format", "-"},
};
constexpr SettingRule kGptqOverrideRules[] = {
    {"bits", ""},
    {"group_size", ""},
    {"sym", ""},
    {"desc_act", ""},
};

int64_t gptq_number(const Json& settings, std::initializer_list<const char*> keys,
                    int64_t fallback) {
  for (const char* key : keys) {
    if (json_has(settings, key)) return json_int(settings, key, kGptqWhere);
  }
  return fallback;
}

}  // namespace

void check_gptq_settings(const Json& settings) {
  check_settings(settings, kGptqRules, kGptqWhere, kGridRules);
  refuse_different(settings, {"bits", "w_bit", "wbits"}, kGptqWhere);
  refuse_different(settings, {"group_size", "q_group_size"}, kGptqWhere);
  refuse_different(settings, {"checkpoint_format", "format", "version"}, kGptqWhere);
}

GptqFolderSettings gptq_settings(const Json& settings) {
  const auto text = [&](const char* key, const std::string& fallback) {
    return json_string(settings, key, kGptqWhere, fallback);
  };
  GptqFolderSettings result;
  result.v2 = text("checkpoint_format", text("format", text("version", "gptq"))) == "gptq_v2";
  result.bits = gptq_number(settings, {"bits", "w_bit", "wbits"}, 4);
  result.group_size = gptq_number(settings, {"group_size", "q_group_size"}, 128);
  result.group_told = json_has(settings, "group_size") || json_has(settings, "q_group_size");
  if (json_has(settings, "sym")) {
    result.symmetric = json_bool(settings, "sym", kGptqWhere);
  } else if (json_has(settings, "zero_point")) {
    result.symmetric = !json_bool(settings, "zero_point", kGptqWhere);
  }
  for (const char* key : {"desc_act", "act_order"}) {
    if (json_has(settings, key)) result.ordered = !json_bool(settings, key, kGptqWhere);
  }
  return result;
}

GptqFolderSettings gptq_settings(const Json& settings, const std::string& module) {
  GptqFolderSettings result = gptq_settings(settings);
  if (!json_has(settings, "dynamic")) return result;
  const Json& dynamic = settings.at("dynamic");
  if (!dynamic.is_object())
    throw Error(ErrorKind::failed, "'dynamic' must be an object", kGptqWhere);
  for (const auto& [pattern, overrides] : dynamic.items()) {
    const bool out = pattern.starts_with("-:"), in = pattern.starts_with("+:");
    if (!python_match(out || in ? pattern.substr(2) : pattern, module, kGptqWhere)) continue;
    result.quantized = !out;
    if (out) return result;
    check_settings(overrides, kGptqOverrideRules, std::string(kGptqWhere) + ": dynamic " + pattern);
    result.bits = gptq_number(overrides, {"bits"}, result.bits);
    result.group_told = result.group_told || json_has(overrides, "group_size");
    result.group_size = gptq_number(overrides, {"group_size"}, result.group_size);
    if (json_has(overrides, "desc_act"))
      result.ordered = !json_bool(overrides, "desc_act", kGptqWhere);
    if (json_has(overrides, "sym")) result.symmetric = json_bool(overrides, "sym", kGptqWhere);
    return result;
  }
  return result;
}

}  // namespace qwb
