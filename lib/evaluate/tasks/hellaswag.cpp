// HellaSwag (Rowan/hellaswag): {"activity_label", "ctx_a", "ctx_b", "endings": [4], "label": 2 or
// "2"}.
#include "lib/evaluate/tasks/field.h"
#include "lib/evaluate/tasks/task.h"
#include "lib/evaluate/unicode_text.h"

namespace qwb {
namespace {

// Without "[title]" and the other marks in brackets that WikiHow left: re.sub(r"\[.*?\]", "",
// text), where a bracket that is not closed on its line stays.
std::string clean(std::string_view raw) {
  const std::string text = replace_all(strip(raw), " [title]", ". ");
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const size_t end = text[i] == '[' ? text.find_first_of("]\n", i) : std::string::npos;
    if (end != std::string::npos && text[end] == ']') {
      i = end + 1;
    } else {
      result += text[i++];
    }
  }
  return replace_all(result, "  ", " ");
}

TaskDocument read_hellaswag(const Json& line, const std::string& where) {
  const std::string context = json_string(line, "activity_label", where) + ": " +
                              json_string(line, "ctx_a", where) + " " +
                              capitalize(json_string(line, "ctx_b", where));
  TaskDocument document;
  document.contexts = {clean(context)};
  for (const std::string& ending : texts_field(line, "endings", where)) {
    document.continuations.push_back(clean(ending));
  }
  document.choices = document.continuations;
  document.gold = label_field(line, "label", std::ssize(document.choices), where);
  return document;
}

}  // namespace

Task hellaswag_task() {
  return {.name = "hellaswag",
          .version = 1,
          .summary = "which of four endings",
          .last_word = false,
          .normalized = true,
          .read = read_hellaswag};
}

}  // namespace qwb
