#include "lib/base/error.h"
#include "lib/base/names.h"
#include "lib/evaluate/tasks/task.h"

namespace qwb {

const std::vector<Task>& tasks() {
  static const std::vector<Task> all = {
      hellaswag_task(),
      arc_task("arc_easy"),
      arc_task("arc_challenge"),
      piqa_task(),
      winogrande_task(),
      lambada_task("lambada_openai"),
      lambada_task("lambada_standard"),
      boolq_task(),
  };
  return all;
}

const Task& find_task(std::string_view name) {
  std::string names;
  for (const Task& task : tasks()) {
    if (same_name(task.name, name)) return task;
    names += (names.empty() ? "" : ", ") + task.name;
  }
  throw Error(ErrorKind::usage, "no task is called \"" + std::string(name) + "\"", {},
              "there are: " + names);
}

}  // namespace qwb
