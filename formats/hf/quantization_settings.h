// What formats share when they read a quantization_config: every key is either read, known to say
// nothing about what the stored weights mean, or refused by name.
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "lib/base/json.h"

namespace qwb {

// True for keys about how, where and by whom a file was made, in any format (the list with the
// reasons: harmless_settings.cpp).
bool is_harmless_setting(std::string_view key);

// A key that may be there besides. allowed: "" any value (read elsewhere);
// "-" only a value that switches it off (null, false, empty); else the texts, separated by '|',
// that it may have besides.
struct SettingRule {
  std::string_view key;
  std::string_view allowed;
};

// Keys that the configurations of GPTQ and AWQ share: both come from the same writers.
inline constexpr SettingRule kGridRules[] = {
    {"pack_dtype", "int32|torch.int32"},
    {"rotation", "-"},
    {"adapter", "-"},
    {"data_type", "int"},  // auto-round's keys from here
    {"act_bits", "16|32"},
    {"act_data_type", ""},  // without fewer bits they mean nothing
    {"act_group_size", ""},
    {"act_sym", ""},
    {"act_dynamic", ""},
};

// Throws unsupported, naming the first key that no rule knows (with a value at all), and that is
// not harmless, or whose value its rule does not allow.
void check_settings(const Json& settings, std::span<const SettingRule> rules,
                    const std::string& where, std::span<const SettingRule> more_rules = {});

// Throws unsupported if two of these names of one setting are there with different values.
void refuse_different(const Json& settings, std::initializer_list<const char*> names,
                      const std::string& where);

// Null, false, "" or a container without elements.
bool is_unset(const Json& value);
// The value as messages show it.
std::string setting_text(const Json& value);

// Python's re.match: the pattern matches `text` from its beginning. Throws unsupported for a
// pattern that cannot be read.
bool python_match(const std::string& pattern, const std::string& text, const std::string& where);

// Whether a list of modules to leave unquantized names this one, as transformers reads such lists:
// a regular expression from the start up to a dot or the end, or the end of the name.
bool skips_module(const Json& list, const std::string& module, const std::string& where);

}  // namespace qwb
