// WinoGrande: {"sentence": "... _ ...", "option1", "option2", "answer": "1" or "2"}. The options
// stand in the context; what follows the blank is scored. Its own release has the answers of
// dev.jsonl in dev-labels.lst too.
#include "lib/evaluate/tasks/field.h"
#include "lib/evaluate/tasks/task.h"
#include "lib/evaluate/unicode_text.h"

namespace qwb {

Task winogrande_task() {
  const auto read = [](const Json& line, const std::string& where) {
    const std::string sentence = json_string(line, "sentence", where),
                      answer = json_string(line, "answer", where);
    const size_t blank = sentence.find('_');
    if (blank == std::string::npos)
      throw Error(ErrorKind::failed, "\"sentence\" has no blank (_)", where);
    if (answer.empty()) throw Error(ErrorKind::failed, "the item has no answer", where, kNoAnswer);
    if (answer != "1" && answer != "2")
      throw Error(ErrorKind::failed, "\"answer\" must be \"1\" or \"2\"", where);
    TaskDocument document;
    const std::string before = sentence.substr(0, blank);
    for (const char* option : {"option1", "option2"})
      document.contexts.push_back(before + json_string(line, option, where));
    document.continuations = {std::string(strip(std::string_view(sentence).substr(blank + 1)))};
    document.choices = document.contexts;
    document.gold = answer == "1" ? 0 : 1;
    return document;
  };
  return {.name = "winogrande",
          .version = 1,
          .summary = "whom a pronoun means",
          .last_word = false,
          .normalized = false,
          .label_key = "answer",
          .read = read};
}

}  // namespace qwb
