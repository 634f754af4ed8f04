// qwb-complete: a model or artifact goes on with a text.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "formats/loaded_model.h"
#include "lib/adapt/use.h"
#include "lib/base/error.h"
#include "lib/base/text.h"
#include "lib/base/text_file.h"
#include "lib/model/generate.h"
#include "lib/quantize/calibrate/conversation.h"
#include "tools/common/adapter_flags.h"
#include "tools/common/bits_flag.h"
#include "tools/common/device_flags.h"
#include "tools/common/int8_flags.h"
#include "tools/common/number_checks.h"
#include "tools/common/sampling_flags.h"
#include "tools/common/standard_input.h"
#include "tools/common/tool.h"

namespace qwb {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  qwb-complete 'Once upon a time'                   greedy, by the newest artifact in the "
    "cache\n"
    "  qwb-complete --model ARTIFACT -f story.txt --temperature 0.8 --top-p 0.95 --seed 7\n"
    "  qwb-complete --model CHAT_MODEL --chat 'Name three rivers.'\n"
    "  qwb-complete --model CHAT_MODEL --messages talk.json\n"
    "  echo 'The capital of France is' | qwb-complete -  --max-tokens 8 --stats\n"
    "Same prompt, flags and seed: same text, whatever --threads says.";

struct Options {
  std::string model, prompt, file, messages;
  std::vector<std::string> positions;  // [MODEL] PROMPT
  int64_t context = 0;
  int bits = 0;
  bool no_special = false, chat = false, echo = false, ignore_eos = false, stats = false;
  GenerationSettings generation;
  Int8Flags int8;
  std::string device = "cpu";
  std::vector<std::string> adapters;
};

void add_options(CLI::App& app, Options& o) {
  app.add_option(
         "PROMPT", o.positions,
         "The text to continue, - to read it from standard input; two positions: the model first")
      ->type_name("");
  CLI::Option* file = app.add_option(
      "-f,--file", o.file,
      "Read the text from this file (one final newline is left away, here and for -)");
  file->type_name("FILE");
  app.add_option(
         "--model", o.model,
         "Artifact or model (default: the newest artifact in the cache, else $QWB_MODEL, else the "
         "demo llama)")
      ->type_name("MODEL");
  add_adapter_flag(app, o.adapters);
  add_bits_flag(app, o.bits);
  app.add_option("--max-tokens", o.generation.max_tokens, "Make at most this many tokens")
      ->check(between(0, 0x1p40))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--context", o.context,
                 "Tokens that the model may look back on (default: its limit)")
      ->check(between(1, 0x1p31))
      ->type_name("N");
  app.add_flag("--ignore-eos", o.ignore_eos, "Go on after an end-of-text token");
  CLI::Option* no_special =
      app.add_flag("--no-special", o.no_special,
                   "Do not put the tokenizer's special tokens (BOS) around the prompt");
  CLI::Option* chat =
      app.add_flag("--chat", o.chat,
                   "Put the prompt, as a user's message, into the model's chat template")
          ->excludes(no_special);
  app.add_option(
         "--messages", o.messages,
         "Go on with a conversation instead of a prompt, through the model's chat template: "
         "a JSON file (or -) with a list of messages, or an object with messages and, if "
         "wanted, tools and chat_template_kwargs")
      ->type_name("FILE")
      ->excludes(no_special)
      ->excludes(chat)
      ->excludes(file);
  app.add_flag("--echo", o.echo, "Print the prompt too");
  add_device_flag(app, o.device);
  add_int8_flags(app, o.int8);
  app.add_flag("--stats", o.stats, "Tell the speed of prefill and decode on stderr");
}

// Positions and flags, sorted out: with a model, or a file for the text, one position is enough.
void take_positions(Options& o) {
  const bool text_wanted = o.file.empty() && o.messages.empty();
  const size_t most = (o.model.empty() ? 1 : 0) + (text_wanted ? 1 : 0);
  if (o.positions.size() > most) {
    throw Error(ErrorKind::usage, "unknown here: " + o.positions.back().substr(0, 80), {},
                text_wanted      ? "a text with spaces is one word in quotes"
                : o.file.empty() ? "--messages gives the conversation already"
                                 : "-f gives the text already");
  }
  if (text_wanted && o.positions.empty())
    throw Error(ErrorKind::usage, "no prompt", {},
                "give a PROMPT, -f FILE, --messages FILE, or - for standard input");
  if (text_wanted) {
    o.prompt = o.positions.back();
    o.positions.pop_back();
  }
  if (!o.positions.empty()) o.model = o.positions.front();
}

std::string read_prompt(const Options& o, const StopToken& stop) {
  if (o.file.empty() && o.prompt != "-") return o.prompt;
  return read_prompt_file(o.file.empty() ? o.prompt : o.file, stop);
}

// Everything that was chosen, opened and checked before the first token.
struct Session {
  LoadedModel loaded;
  Json int8_forward;
  std::string prompt;
  std::vector<int32_t> tokens;
  GenerationSettings generation;
  int64_t context = 0;
};

void check_context(Session& session, const Options& o) {
  const int64_t limit = session.loaded.model->config().max_positions;
  if (o.context > limit) {
    throw Error(ErrorKind::usage,
                fmt::format("--context {} is beyond the model's limit of {}", o.context, limit));
  }
  session.context = o.context > 0 ? o.context : limit;
  const auto length = static_cast<int64_t>(session.tokens.size());
  if (length == 0)
    throw Error(ErrorKind::usage,
                "the prompt is empty, and the tokenizer has no token to begin with");
  if (length > session.context) {
    throw Error(ErrorKind::usage,
                fmt::format("the prompt has {} tokens, more than the context of {}", length,
                            session.context),
                {},
                o.context > 0 && length <= limit ? "raise --context or shorten the prompt"
                                                 : "shorten the prompt");
  }
  // No more memory than this text can need.
  const int64_t wanted = std::min(session.generation.max_tokens, session.context);
  session.context = std::min(session.context, length + wanted);
}

// The whole conversation of a file, or the prompt as its only message.
Conversation read_chat(const Options& o, Tool& tool) {
  const StopToken& stop = tool.context().stop;
  Conversation chat;
  if (o.messages.empty()) {
    chat.messages.push_back({{"role", "user"}, {"content", read_prompt(o, stop)}});
    return chat;
  }
  const bool piped = o.messages == "-";
  const std::string where = piped ? "standard input" : o.messages;
  chat = parse_conversation(piped ? read_standard_input(stop) : read_text_file(o.messages), where);
  if (chat.messages.empty()) throw Error(ErrorKind::usage, "no message", where);
  if (chat.messages.back()["role"] == "assistant")
    tool.note("the last message is the assistant's: another answer begins after it");
  return chat;
}

// The conversation as text that waits for the next answer. The template writes the special tokens
// itself.
std::string as_text(const LoadedModel& loaded, const Conversation& chat, const Options& o) {
  const auto render = [&](const Conversation& conversation) {
    return loaded.chat_template().render(conversation.messages, chat_options(conversation));
  };
  if (o.messages.empty()) return render(chat);
  return render_conversation(chat, render, o.messages);
}

Session open_session(const Options& o, Tool& tool) {
  Session session;
  session.generation = o.generation;
  check_sampling(session.generation.sampling);
  const bool chat = o.chat || !o.messages.empty();
  const Conversation conversation = chat ? read_chat(o, tool) : Conversation();
  if (!chat) session.prompt = read_prompt(o, tool.context().stop);
  const ChosenArtifact chosen = model_to_run(o.model, o.bits, tool.context());
  const Int8Forward forward = chosen_int8_forward(o.int8);
  const DeviceChoice device = chosen_device(o.device, tool);
  session.loaded = load_model(chosen.folder,
                              {.executor = make_executor(device, forward, tool.context().threads),
                               .hold = chosen.lease,
                               .attach = adapters_to_attach(parse_adapter_uses(o.adapters))},
                              tool.context());
  require_int8_modules(*session.loaded.model, forward, chosen.folder.string());
  session.int8_forward = int8_forward_json(*session.loaded.model, forward);
  if (forward.threshold) tool.note("int8 forward: " + int8_forward_text(session.int8_forward));
  session.generation.eos = session.loaded.end_tokens();
  session.generation.stop_at_eos = !o.ignore_eos && !session.generation.eos.empty();
  if (chat) session.prompt = as_text(session.loaded, conversation, o);
  session.tokens = session.loaded.tokenizer->encode(session.prompt, !o.no_special && !chat);
  check_context(session, o);
  return session;
}

// Where the text goes, token by token.
class Output {
 public:
  Output(const Session& session, Tool& tool)
      : tool_(tool), decoder_(session.loaded.tokenizer->stream(true)) {
    // The decoder has to see the prompt: it decides whether the first word begins with a space.
    for (const int32_t token : session.tokens) decoder_.push(token);
  }
  void echo(const Session& session) {
    tool_.json() ? line({{"schema", 1}, {"prompt", session.prompt}, {"tokens", session.tokens}})
                 : tool_.print(session.prompt);
  }
  void put(int32_t token) {
    const std::string text = decoder_.push(token);
    text_ += text;
    if (tool_.json()) {
      line({{"token", token}, {"text", text}});
    } else if (!text.empty()) {
      tool_.print(text);
    }
  }
  // What the decoder still held back, and the end of the line.
  std::string finish() {
    std::string rest = decoder_.finish();
    text_ += rest;
    if (!tool_.json()) tool_.print(rest + "\n");
    return rest;
  }
  void line(const Json& json) {
    tool_.print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  const std::string& text() const { return text_; }

 private:
  Tool& tool_;
  StreamDecoder decoder_;
  std::string text_;
};

// The first token ends the prefill; the others are decoded one by one.
struct Clock {
  using Time = std::chrono::steady_clock;
  Time::time_point start = Time::now(), first = start, last = start;
  int64_t tokens = 0;

  void token() {
    last = Time::now();
    if (tokens++ == 0) first = last;
  }
  double prefill() const { return std::chrono::duration<double>(first - start).count(); }
  double decode() const { return std::chrono::duration<double>(last - first).count(); }
};

Json rate(int64_t tokens, double seconds) {
  return tokens > 0 && seconds > 0 ? Json(static_cast<double>(tokens) / seconds) : Json(nullptr);
}

void log_stats(const Session& session, const Clock& clock, Tool& tool) {
  const auto prompt = static_cast<int64_t>(session.tokens.size());
  const auto part = [](const char* name, int64_t tokens, double seconds) {
    const Json speed = rate(tokens, seconds);
    return fmt::format("{} {} tokens in {} ({} t/s)", name, tokens, human_duration(seconds),
                       speed.is_null() ? "-" : human_number(speed.get<double>()));
  };
  if (clock.tokens == 0) return tool.note("nothing was generated");
  tool.note(part("prefill", prompt, clock.prefill()));
  tool.note(part("decode", clock.tokens - 1, clock.decode()));
}

const char* reason_name(StopReason reason) {
  if (reason == StopReason::eos) return "eos";
  return reason == StopReason::context ? "context" : "length";
}

Json summary(const Session& session, const Clock& clock, StopReason reason,
             const std::string& rest) {
  const auto prompt = static_cast<int64_t>(session.tokens.size());
  Json json = {{"schema", 1},
               {"done", true},
               {"reason", reason_name(reason)},
               {"model", session.loaded.open.folder.string()},
               {"int8_forward", session.int8_forward},
               {"rest", rest},  // text that belongs to no single token
               {"prompt_tokens", prompt},
               {"tokens", clock.tokens},
               {"seed", session.generation.sampling.seed},
               {"prefill_seconds", clock.prefill()},
               {"decode_seconds", clock.decode()},
               {"prefill_tokens_per_second",
                clock.tokens > 0 ? rate(prompt, clock.prefill()) : Json(nullptr)},
               {"decode_tokens_per_second", rate(clock.tokens - 1, clock.decode())}};
  if (!session.loaded.additions.is_null()) json["adapters"] = session.loaded.additions;
  return json;
}

int complete(Options& o, Tool& tool) {
  take_positions(o);
  const Session session = open_session(o, tool);
  Output output(session, tool);
  KvCache cache = session.loaded.model->new_cache(session.context);
  if (o.echo) output.echo(session);
  Clock clock;
  StopReason reason = StopReason::length;
  try {
    reason = generate(
        *session.loaded.model, session.tokens, session.generation, cache,
        [&](int32_t token) {
          clock.token();
          output.put(token);
          return true;
        },
        tool.context().stop);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) output.finish();  // the text so far is whole
    throw;
  }
  const std::string rest = output.finish();
  if (tool.json()) {
    Json json = summary(session, clock, reason, rest);
    json["text"] = output.text();
    output.line(json);
  }
  if (reason == StopReason::context) {
    tool.note(fmt::format("the context of {} tokens is full: the text ends here{}", session.context,
                          session.context < session.loaded.model->config().max_positions
                              ? " (--context allows more)"
                              : ", and the model looks no further"));
  }
  if (o.stats) log_stats(session, clock, tool);
  return 0;
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {
      .name = "qwb-complete", .summary = "Continues a text.", .examples = qwb::kExamples};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::Options>();
    qwb::add_options(app, *options);
    qwb::add_sampling_flags(app, options->generation.sampling);
    return [options, &tool] { return qwb::complete(*options, tool); };
  });
}
