// Which tokens a model's folder names as special. Newer folders say all in tokenizer_config.json;
// older ones have special_tokens_map.json and added_tokens.json beside it.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/tokenizer/added_tokens.h"

namespace qwb::tokenizer {

// tokenizer_config.json as transformers 5 completes it: if it has no added_tokens_decoder, the
// entries of special_tokens_map.json replace its own, and added_tokens.json becomes
// added_tokens_decoder. Each may be null. Throws `failed` for files of another shape.
Json complete_tokenizer_config(Json config, const Json& special_tokens_map,
                               const Json& added_tokens, const std::string& where);
// The same from a folder's files; null if it has none of them.
Json read_tokenizer_config(const Path& folder);

inline constexpr std::array kNamedTokens = {"bos_token", "eos_token", "unk_token", "sep_token",
                                            "pad_token", "cls_token", "mask_token"};

// The text of a named token ("bos_token"): given as a text or as {"content": ...}.
std::optional<std::string> named_token(const Json& config, const std::string& key,
                                       const std::string& where);

// All added tokens in the order in which they get ids, each content once: the list of
// tokenizer.json (`listed`, may be null), added_tokens_decoder by id, and of the named and the
// extra special tokens those that are new. Of equal contents in the first two the last one's flags
// hold, but each of all can make it special. Ids are those that the list of tokenizer.json tells,
// else -1.
std::vector<AddedToken> added_tokens(const Json& listed, const Json& config,
                                     const std::string& where);

}  // namespace qwb::tokenizer
