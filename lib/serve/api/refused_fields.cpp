#include "lib/serve/api/refused_fields.h"

#include <algorithm>
#include <string>
#include <vector>

#include "lib/serve/api/api_error.h"

namespace qwb::serve {
namespace {

struct RefusedField {
  const char* name;
  std::vector<Json> harmless;  // values that change nothing
};

const std::vector<RefusedField>& refused_everywhere() {
  static const std::vector<RefusedField> fields = {
      {"logit_bias", {}},
      {"use_beam_search", {false}},
      {"length_penalty", {1}},
      {"early_stopping", {false}},
      {"min_tokens", {0}},
      {"stop_token_ids", {}},
      {"bad_words", {}},
      {"allowed_token_ids", {}},
      {"include_stop_str_in_output", {false}},
      {"skip_special_tokens", {true}},
      {"spaces_between_special_tokens", {true}},
      {"truncate_prompt_tokens", {}},
      {"prompt_logprobs", {}},
      {"add_special_tokens", {}},
      {"guided_json", {}},
      {"guided_regex", {}},
      {"guided_choice", {}},
      {"guided_grammar", {}},
      {"structured_outputs", {}},
      {"grammar", {}},
      {"json_schema", {}},
      {"typical_p", {1}},
      {"tfs_z", {1}},
      {"mirostat", {0}},
      {"dynatemp_range", {0}},
      {"xtc_probability", {0}},
      {"dry_multiplier", {0}},
      {"top_n_sigma", {-1}},
      {"samplers", {}},
      {"n_keep", {0}},
      {"n_probs", {0}},
      {"post_sampling_probs", {false}},
      {"lora", {}},
      {"response_format", {Json{{"type", "text"}}}},
  };
  return fields;
}

const std::vector<RefusedField>& refused_in_chats() {
  static const std::vector<RefusedField> fields = {
      {"functions", {}},
      {"function_call", {"none", "auto"}},
      {"tool_choice", {"none", "auto"}},
      {"modalities", {Json{"text"}}},
      {"audio", {}},
      {"prediction", {}},
      {"web_search_options", {}},
      {"reasoning_effort", {}},
      {"reasoning_format", {"none"}},
      {"thinking_budget_tokens", {-1}},
      {"verbosity", {}},
      {"echo", {false}},
      {"add_generation_prompt", {true}},
      {"continue_final_message", {false}},
      {"chat_template", {}},
      {"documents", {}},
  };
  return fields;
}

const std::vector<RefusedField>& refused_in_texts() {
  static const std::vector<RefusedField> fields = {{"suffix", {}}, {"image_data", {}}};
  return fields;
}

bool asks_for_something(const Json& value, const RefusedField& field) {
  if (value.is_null()) return false;
  if ((value.is_structured() || value.is_string()) && (value.empty() || value == Json("")))
    return false;
  return std::find(field.harmless.begin(), field.harmless.end(), value) == field.harmless.end();
}

void refuse(const Json& request, const std::vector<RefusedField>& fields) {
  for (const RefusedField& field : fields) {
    const auto found = request.find(field.name);
    if (found == request.end() || !asks_for_something(*found, field)) continue;
    throw ApiError(400, std::string(field.name) + " is not implemented here with this value",
                   field.name, "unsupported_value");
  }
}

}  // namespace

void refuse_unimplemented(const Json& request, bool chat) {
  refuse(request, refused_everywhere());
  refuse(request, chat ? refused_in_chats() : refused_in_texts());
}

}  // namespace qwb::serve
