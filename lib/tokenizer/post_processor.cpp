#include "lib/tokenizer/post_processor.h"

#include "lib/base/error.h"
#include "lib/tokenizer/tokenizer_file.h"

namespace qwb::tokenizer {
namespace {

constexpr size_t kMaxTemplate = 4096;  // ids; keeps nested sequences from growing without bound

int32_t checked_id(const Json& value, const std::string& where) {
  if (!value.is_number_integer() || value < 0 || value > kMaxId)
    throw Error(ErrorKind::failed, "a special token has a bad id", where);
  return value.get<int32_t>();
}

Template from_template(const Json& json, const std::string& where) {
  if (!json_has(json, "single") || !json["single"].is_array())
    throw Error(ErrorKind::failed, "TemplateProcessing has no 'single' list", where);
  Template result;
  for (const Json& piece : json["single"]) {
    if (json_has(piece, "Sequence")) {
      result.push_back(kText);
      continue;
    }
    if (!json_has(piece, "SpecialToken"))
      throw Error(ErrorKind::failed, "TemplateProcessing has an unknown piece", where);
    const std::string name = json_string(piece["SpecialToken"], "id", where);
    if (!json_has(json, "special_tokens") || !json_has(json["special_tokens"], name)) {
      throw Error(ErrorKind::failed, "TemplateProcessing does not define '" + name + "'", where);
    }
    const Json& token = json["special_tokens"][name];
    if (!json_has(token, "ids") || !token["ids"].is_array())
      throw Error(ErrorKind::failed, "'" + name + "' has no ids", where);
    for (const Json& id : token["ids"]) result.push_back(checked_id(id, where));
  }
  return result;
}

// ["[CLS]", 101], as Bert and Roberta name their tokens.
int32_t post_processor_token(const Json& json, const char* key, const std::string& where) {
  if (!json_has(json, key) || !json[key].is_array() || json[key].size() != 2) {
    throw Error(ErrorKind::failed, std::string("'") + key + "' must be a token and its id", where);
  }
  return checked_id(json[key][1], where);
}

// The text of `outer` replaced by all of `inner`.
Template nest(const Template& outer, const Template& inner, const std::string& where) {
  Template result;
  for (const int32_t id : outer) {
    if (id == kText) {
      result.insert(result.end(), inner.begin(), inner.end());
    } else {
      result.push_back(id);
    }
    if (result.size() > kMaxTemplate)
      throw Error(ErrorKind::failed, "the post-processor adds too many tokens", where);
  }
  return result;
}

}  // namespace

namespace {

// A chain of post-processors. tokenizers hands the pieces of a TemplateProcessing to the next step
// one by one, and not as a text: a step that adds tokens then takes the first piece for the text.
struct PostChain {
  Template made = {kText};
  size_t pieces = 1;
  void step(const Json& json, const std::string& where);
  void wrap(const Template& outer, const std::string& inside) {
    if (pieces > 1)
      throw Error(ErrorKind::unsupported,
                  "a post-processor behind a TemplateProcessing that adds tokens", inside,
                  "write both as one TemplateProcessing");
    made = nest(outer, made, inside);
  }
};

void PostChain::step(const Json& json, const std::string& where) {
  const std::string inside = where + ": post_processor";
  const std::string type = json_string(json, "type", inside);
  if (type == "ByteLevel") return;
  if (type == "TemplateProcessing") {
    wrap(from_template(json, inside), inside);
    pieces = json["single"].size();
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    wrap({post_processor_token(json, "cls", inside), kText,
          post_processor_token(json, "sep", inside)},
         inside);
  } else if (type == "Sequence") {
    if (!json_has(json, "processors") || !json["processors"].is_array())
      throw Error(ErrorKind::failed, "a Sequence without a list", inside);
    for (const Json& part : json["processors"]) step(part, where);
  } else {
    throw Error(ErrorKind::unsupported, "the post-processor '" + type + "' is not known", where);
  }
}

}  // namespace

Template make_template(const Json& json, const std::string& where) {
  PostChain chain;
  if (!json.is_null()) chain.step(json, where);
  return chain.made;
}

}  // namespace qwb::tokenizer
