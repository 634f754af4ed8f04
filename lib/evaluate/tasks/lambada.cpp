// LAMBADA: {"text"}; the last word (after the last space) is to be found.
#include "lib/evaluate/tasks/field.h"
#include "lib/evaluate/tasks/task.h"

namespace qwb {

Task lambada_task(const std::string& name) {
  const auto read = [](const Json& line, const std::string& where) {
    const std::string text = json_string(line, "text", where);
    const size_t space = text.rfind(' ');
    TaskDocument document;
    document.contexts = {space == std::string::npos ? "" : text.substr(0, space)};
    document.continuations = {" " + (space == std::string::npos ? text : text.substr(space + 1))};
    document.choices = document.continuations;
    return document;
  };
  return {.name = name,
          .version = 1,
          .summary = "the last word of a passage",
          .last_word = true,
          .normalized = false,
          .read = read};
}

}  // namespace qwb
