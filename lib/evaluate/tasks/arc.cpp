// ARC. On the Hub (allenai/ai2_arc): {"question": "...", "choices": {"text": [], "label": []},
// "answerKey": "B"}; in AI2's own files {"question": {"stem": "...", "choices": [{"text",
// "label"}]}, "answerKey"}.
#include <algorithm>

#include "lib/evaluate/tasks/field.h"
#include "lib/evaluate/tasks/task.h"

namespace qwb {
namespace {

TaskDocument read_arc(const Json& line, const std::string& where) {
  std::string question;
  std::vector<std::string> texts, labels;
  if (json_has(line, "question") && line.at("question").is_object()) {
    const Json& inner = line.at("question");
    question = json_string(inner, "stem", where);
    if (!json_has(inner, "choices") || !inner.at("choices").is_array())
      throw Error(ErrorKind::failed, "\"choices\" must be a list", where);
    for (const Json& choice : inner.at("choices")) {
      texts.push_back(json_string(choice, "text", where));
      labels.push_back(json_string(choice, "label", where));
    }
  } else {
    question = json_string(line, "question", where);
    const Json choices = json_has(line, "choices") ? line.at("choices") : Json::object();
    texts = texts_field(choices, "text", where);
    labels = texts_field(choices, "label", where);
  }
  const auto answer =
      std::find(labels.begin(), labels.end(), json_string(line, "answerKey", where));
  if (answer == labels.end() || labels.size() != texts.size())
    throw Error(ErrorKind::failed, "\"answerKey\" names none of the choices", where);
  TaskDocument document;
  document.contexts = {"Question: " + question + "\nAnswer:"};
  document.continuations = document.choices = std::move(texts);
  document.gold = answer - labels.begin();
  return document;
}

}  // namespace

Task arc_task(const std::string& name) {
  return {.name = name,
          .version = 1,
          .summary = "questions of school exams",
          .last_word = false,
          .normalized = true,
          .read = read_arc};
}

}  // namespace qwb
