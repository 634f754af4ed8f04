// Fields of task files, which spell the same thing as number or text.
#pragma once

#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/json.h"

namespace qwb {

// Data sets publish the questions of their test part without answers: "" or -1 in place of a label.
inline constexpr const char* kNoAnswer =
    "the test part of this data set is published without answers; use its validation part";

// A number, a text that is one, or false and true: the label of a choice. Throws `failed` unless 0
// <= label < choices.
inline int64_t label_field(const Json& line, const std::string& key, int64_t choices,
                           const std::string& where) {
  int64_t label = -1;
  if (json_has(line, key) && line.at(key).is_string()) {
    const std::string text = line.at(key);
    if (text.empty() || text == "-1")
      throw Error(ErrorKind::failed, "the item has no answer", where, kNoAnswer);
    if (text.size() == 1 && text[0] >= '0' && text[0] <= '9') label = text[0] - '0';
  } else if (json_has(line, key) && line.at(key).is_boolean()) {
    label = line.at(key).get<bool>() ? 1 : 0;
  } else {
    label = json_int(line, key, where);
  }
  if (label == -1 && json_has(line, key) && line.at(key).is_number())
    throw Error(ErrorKind::failed, "the item has no answer", where, kNoAnswer);
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
    if (!text.is_string())
      throw Error(ErrorKind::failed, "\"" + key + "\" must be a list of texts", where);
    texts.push_back(text);
  }
  return texts;
}

}  // namespace qwb
