// PIQA: {"goal", "sol1", "sol2", "label": 0 or 1}; its own release has the labels apart
// (valid.jsonl and valid-labels.lst).
#include "lib/evaluate/tasks/field.h"
#include "lib/evaluate/tasks/task.h"

namespace qwb {

Task piqa_task() {
  const auto read = [](const Json& line, const std::string& where) {
    TaskDocument document;
    document.contexts = {"Question: " + json_string(line, "goal", where) + "\nAnswer:"};
    document.continuations = {json_string(line, "sol1", where), json_string(line, "sol2", where)};
    document.choices = document.continuations;
    document.gold = label_field(line, "label", 2, where);
    return document;
  };
  return {.name = "piqa",
          .version = 1,
          .summary = "which of two ways to a goal",
          .last_word = false,
          .normalized = true,
          .label_key = "label",
          .read = read};
}

}  // namespace qwb
