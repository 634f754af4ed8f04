#include "lib/jobs/chat/dialogue.h"

#include <algorithm>

#include "lib/base/error.h"

namespace qwb {
namespace {

bool has_role(const Json& message, const char* role) {
  return json_has(message, "role") && message["role"] == role;
}

}  // namespace

void Dialogue::set_variable(const std::string& name, const Json& value) {
  Json& variables = conversation_.variables;
  if (variables.is_null()) variables = Json::object();
  variables[name] = value;
  if (value.is_null()) variables.erase(name);
  if (variables.empty()) variables = nullptr;
}

std::optional<std::string> Dialogue::system() const {
  const Json& all = messages();
  if (all.empty() || !has_role(all[0], "system") || !json_has(all[0], "content") ||
      !all[0]["content"].is_string())
    return std::nullopt;
  return all[0]["content"].get<std::string>();
}

void Dialogue::set_system(const std::string& text) {
  Json& all = conversation_.messages;
  const bool there = !all.empty() && has_role(all[0], "system");
  const Json message = {{"role", "system"}, {"content", text}};
  if (there && !text.empty()) {
    all[0] = message;
    return;
  }
  if (there == !text.empty()) return;
  std::set<size_t> moved;
  for (const size_t index : cut_) moved.insert(there ? index - 1 : index + 1);
  cut_ = std::move(moved);
  if (there) {
    all.erase(all.begin());
  } else {
    all.insert(all.begin(), message);
  }
}

void Dialogue::ask(const std::string& text) {
  conversation_.messages.push_back({{"role", "user"}, {"content", text}});
}

void Dialogue::answer(const std::string& content, const std::string& reasoning, bool cut) {
  Json message = {{"role", "assistant"}, {"content", content}};
  if (!reasoning.empty()) message["reasoning_content"] = reasoning;
  if (cut) cut_.insert(messages().size());
  conversation_.messages.push_back(std::move(message));
}

bool Dialogue::waits() const {
  const Json& all = messages();
  return !all.empty() && (has_role(all.back(), "user") || has_role(all.back(), "tool"));
}

int64_t Dialogue::questions() const {
  return std::ranges::count_if(messages(),
                               [](const Json& message) { return has_role(message, "user"); });
}

std::optional<size_t> Dialogue::question_index(int64_t number) const {
  if (number == 0) number = questions();
  if (number < 1) return std::nullopt;
  for (size_t i = 0; i < messages().size(); ++i) {
    if (has_role(messages()[i], "user") && --number == 0) return i;
  }
  return std::nullopt;
}

std::string Dialogue::question(int64_t number) const {
  const auto index = question_index(number);
  if (!index) return {};
  Conversation one;
  one.messages.push_back(messages()[*index]);
  return conversation_text(one);
}

void Dialogue::shorten(size_t count) {
  Json& all = conversation_.messages;
  if (count >= all.size()) return;
  all.erase(all.begin() + static_cast<std::ptrdiff_t>(count), all.end());
  std::erase_if(cut_, [&](size_t index) { return index >= count; });
}

bool Dialogue::take_back_answer() {
  const auto index = question_index(0);
  if (index) shorten(*index + 1);
  return index.has_value();
}

std::optional<std::string> Dialogue::undo() {
  const auto index = question_index(0);
  if (!index) return std::nullopt;
  std::string text = question(0);
  shorten(*index);
  return text;
}

void Dialogue::edit(int64_t number, const std::string& text) {
  const auto index = question_index(number);
  if (!index) {
    throw Error(ErrorKind::usage, "there is no message " + std::to_string(number), {},
                "the conversation has " + std::to_string(questions()) + " of yours");
  }
  shorten(*index);
  ask(text);
}

void Dialogue::clear() {
  shorten(!messages().empty() && has_role(messages()[0], "system") ? 1 : 0);
}

void Dialogue::set_cut(const Json& indices, const std::string& where) {
  const auto refuse = [&] {
    throw Error(ErrorKind::failed, "'cut' must list the assistant's messages that were stopped",
                where);
  };
  if (!indices.is_array()) refuse();
  for (const Json& index : indices) {
    if (!index.is_number_unsigned() || index.get<size_t>() >= messages().size() ||
        !has_role(messages()[index.get<size_t>()], "assistant"))
      refuse();
    cut_.insert(index.get<size_t>());
  }
}

}  // namespace qwb
