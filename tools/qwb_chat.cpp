// qwb-chat: a conversation with a model, or with several versions of one.
#include <unistd.h>

#include <memory>

#include "lib/base/error.h"
#include "tools/chat/options.h"
#include "tools/chat/talk.h"
#include "tools/common/tool.h"

namespace qwb {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  qwb-chat --model CHAT_MODEL                          a conversation; /help lists its "
    "commands\n"
    "  qwb-chat --model CHAT_MODEL --bits 4                 the same, quantized first\n"
    "  qwb-chat --model CHAT_MODEL --model ARTIFACT         both answer; where the second departs "
    "is told\n"
    "  qwb-chat --model CHAT_MODEL -p 'Name three rivers.'  one answer to standard output\n"
    "  git diff | qwb-chat --model CHAT_MODEL -p 'What changes here?' -\n"
    "Same conversation, flags and seed: same answer, whatever was said before.";

int chat(ChatOptions& options, const CLI::App& app, Tool& tool) {
  take_chat_options(app, options);
  const bool once = options.has_prompt || !options.file.empty() || !options.words.empty() ||
                    !is_terminal(STDIN_FILENO) || !is_terminal(STDOUT_FILENO);
  if (once) {
    answer_once(options, tool);
    return 0;
  }
  if (tool.json())
    throw Error(ErrorKind::usage, "--json is for one answer", {}, "give -p TEXT, -f FILE or -");
  talk(options, tool);
  return 0;
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {.name = "qwb-chat",
                              .summary = "Talks with a model, or asks several the same.",
                              .examples = qwb::kExamples,
                              .writes = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::ChatOptions>();
    qwb::add_chat_options(app, *options);
    return [options, &app, &tool] { return qwb::chat(*options, app, tool); };
  });
}
