// Fields of task files, which spell the same thing as number or text.
#pragma once

#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/json.h"

namespace qwb {

// A number, or a text that is one: the label of a choice. Throws `failed` unless 0 <= label < choices.
inline int64_t label_field(const Json& line, const std::string& key, int64_t choices,
                           const std::string& where) {
  int64_t label = -1;
  if (json_has(line, key) && line.at(key).is_string()) {
    const std::string text = line.at(key);
    if (text.size() == 1 && text[0] >= '0' && text[0] <= '9') label = text[0] - '0';
  } else {
    label = json_int(line, key, where);
  }
  if (label < 0 || label >= choices)
    throw Error(ErrorKind::failed,
                "\"" + key + "\" names none of the " + std::to_string(choices) + " choices", where);
  return label;
}

inline std::vector<std::string> texts_field(const Json& line, const std::string& key,
                                            const std::string& where) {
  if (!json_has(line, key) || !line.at(key).is_array() || line.at(key).empty())
    throw Error(ErrorKind::failed, "\"" + key + "\" must be a list of texts", where);
  std::vector<std::string> texts;
  for (const Json& text : line.at(key)) {
    if (!text.is_string()) throw Error(ErrorKind::failed, "\"" + key + "\" must be a list of texts", where);
    texts.push_back(text);
  }
  return texts;
}

}  // namespace qwb
