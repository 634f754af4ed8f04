// BoolQ: {"passage", "question", "label": 0 or 1} as in SuperGLUE (true or false in its own files),
// or {"answer": true} as google/boolq has it.
#include "lib/evaluate/tasks/field.h"
#include "lib/evaluate/tasks/task.h"

namespace qwb {

Task boolq_task() {
  const auto read = [](const Json& line, const std::string& where) {
    TaskDocument document;
    document.contexts = {json_string(line, "passage", where) +
                         "\nQuestion: " + json_string(line, "question", where) + "?\nAnswer:"};
    document.continuations = document.choices = {"no", "yes"};
    document.gold = json_has(line, "answer") ? int64_t{json_bool(line, "answer", where)}
                                             : label_field(line, "label", 2, where);
    return document;
  };
  return {.name = "boolq",
          .version = 2,
          .summary = "yes or no after a passage",
          .last_word = false,
          .normalized = false,
          .read = read};
}

}  // namespace qwb
