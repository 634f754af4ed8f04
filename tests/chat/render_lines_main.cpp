// The program that tests/golden/check_templates.py runs.
// usage: render_lines < REQUESTS > RESULTS, both JSON lines A request has `template` (a text;
// absent: that of the request before), `config` (special tokens), `messages`, `tools`, `variables`,
// `add_generation_prompt`, all optional. A result has `text`, or `error` and `kind`: usage for a
// refusal by the template, unsupported, failed. strftime_now() tells 2024-07-26.
#include <iostream>
#include <optional>

#include "lib/base/error.h"
#include "lib/chat/chat_template.h"

namespace qwb {
namespace {

std::optional<ChatTemplate> parsed;
std::string parse_error, parse_kind;

const char* kind_name(ErrorKind kind) {
  return kind == ErrorKind::usage         ? "usage"
         : kind == ErrorKind::unsupported ? "unsupported"
                                          : "failed";
}

Json answer(const Json& request) {
  try {
    if (request.contains("template")) {
      parsed.reset();
      const Json config = request.value("config", Json());
      parsed = ChatTemplate::from_text(request["template"].get<std::string>(), config, "template");
    }
    if (!parsed) return {{"error", parse_error}, {"kind", parse_kind}};
    ChatTemplate::Options options;
    options.add_generation_prompt = request.value("add_generation_prompt", false);
    options.tools = request.value("tools", Json());
    options.variables = request.value("variables", Json());
    options.now = 1721980800;
    return {{"text", parsed->render(request.value("messages", Json::array()), options)}};
  } catch (const Error& error) {
    if (!parsed) parse_error = error.what(), parse_kind = kind_name(error.kind());
    return {{"error", error.what()}, {"kind", kind_name(error.kind())}};
  }
}

}  // namespace
}  // namespace qwb

int main() {
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);)
    std::cout << qwb::answer(qwb::Json::parse(line))
                     .dump(-1, ' ', false, qwb::Json::error_handler_t::replace)
              << '\n';
}
