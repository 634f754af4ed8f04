#include "tools/common/tool.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <span>
#include <string_view>
#include <utility>

#include "cache/store.h"
#include "lib/base/error.h"
#include "lib/base/interrupt.h"
#include "lib/base/parallel.h"
#include "lib/base/process_policy.h"
#include "tools/common/command_line.h"
#include "tools/common/progress_display.h"
#include "tools/common/version.h"
#include "tools/manual/generate.h"

namespace qwb {
namespace {

constexpr int kMostThreads = 4096;

// Thrown when the reader of a pipe has gone: the end of the tool, but no failure (as ripgrep does
// it).
struct NobodyReads {};

constexpr size_t kLongestLine = 2000;  // bytes of an error

std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  for (char& c : text) {
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      c = '?';  // nor may a file's name move the cursor
  }
  if (text.size() > kLongestLine)
    text = text.substr(0, kLongestLine / 2) + " … " + text.substr(text.size() - kLongestLine / 2);
  return text;
}

}  // namespace

Tool::Tool(ToolText text) : text_(std::move(text)) {
  ProgressDisplay::Settings settings;
  settings.name = text_.name;
  settings.terminal = is_terminal(STDERR_FILENO);
  display_ = std::make_unique<ProgressDisplay>(std::move(settings));
  context_.stop = interrupt_token();
  context_.progress = display_.get();
}

Tool::~Tool() = default;

Progress& Tool::progress() {
  return *display_;
}

bool Tool::color_stdout() const {
  return use_color(color_mode_, STDOUT_FILENO);
}

void Tool::log_error(const std::string& text) {
  const bool color = use_color(color_mode_, STDERR_FILENO);
  const std::string line = fmt::format("{}: {}error:{} {}\n", text_.name, color ? "\x1b[1;31m" : "",
                                       color ? "\x1b[0m" : "", one_line(text));
  display_->suspend([&] { std::fputs(line.c_str(), stderr); });
}

void Tool::keep_running_at_ctrl_c() {
  let_sigint_only_interrupt();
}

void Tool::forget_ctrl_c() {
  forget_sigint();
}

bool Tool::end_requested() const {
  return qwb::end_requested();
}

void Tool::reuse_large_buffers() {
  qwb::reuse_large_buffers();
}

void Tool::note_once(const std::string& text) {
  if (noted_.insert(text).second) note(text);
}

// Everything buffered must have reached its file: a full disk often shows only here. Told once.
void Tool::finish_stdout() {
  if (stdout_failed_ || (std::fflush(stdout) == 0 && std::ferror(stdout) == 0)) return;
  const int reason = errno;
  stdout_failed_ = true;
  if (reason == EPIPE) throw NobodyReads();
  throw system_error("cannot write", "standard output", reason);
}

std::string Tool::table_text(Table table) {
  table.drop_unmeasured();
  if (is_terminal(STDOUT_FILENO)) {
    std::string hidden;
    for (const std::string& title : table.fit(terminal_width(STDOUT_FILENO)))
      hidden += (hidden.empty() ? "" : ", ") + title;
    if (!hidden.empty())
      note("not shown for want of room: " + hidden + " (widen the terminal, or see --json)");
  }
  return table.text(color_stdout());
}

void Tool::print_table(Table table) {
  if (!table.empty()) print(table_text(std::move(table)));
}

void Tool::print(const std::string& text) {
  display_->suspend([&] {
    errno = 0;
    std::fwrite(text.data(), 1, text.size(), stdout);
    finish_stdout();
  });
}

void Tool::add_flags(CLI::App& app) {
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.add_flag("--json", json_,
               "Write JSON to stdout (one object a line; \"schema\" tells its version)")
      ->group("Common");
  app.add_flag("-q,--quiet", quiet_, "Nothing on stderr but errors")->group("Common");
  if (text_.has_threads) {
    // Not checked by a validator: CLI11 2.4 passes over a variable whose value its option's
    // validators refuse.
    const auto set = [this](int threads) {
      if (threads < 1 || threads > kMostThreads)
        throw CLI::ValidationError("--threads",
                                   fmt::format("{} is not in 1 to {}", threads, kMostThreads));
      threads_ = threads;
    };
    app.add_option_function<int>("--threads", set,
                                 "Threads to use (default: the processors available)")
        ->envname("QWB_THREADS")
        ->type_name("N")
        ->group("Common");
  }
  app.add_option("--color", color_, "auto, always or never (auto honours NO_COLOR)")
      ->check(one_of({"auto", "always", "never"}))
      ->type_name("WHEN")
      ->group("Common");
  if (text_.has_dry_run) {
    app.add_flag("-n,--dry-run", dry_run_,
                 "Say what would be done, with time, memory and disk, and stop")
        ->group("Common");
  }
  if (text_.writes) {
    app.add_flag("--force", force_,
                 "Replace what is at the places to write to: files, and folders that qwb made. "
                 "What else lies in "
                 "a folder, and what this run reads, stays all the same")
        ->group("Common");
  }
  app.set_version_flag(
      "--version", [] { return std::string(); },
      "Print version, build, instruction sets and libraries, and exit");
  app.footer(text_.examples);
}

void Tool::apply_flags() {
  color_mode_ = color_ == "always"  ? ColorMode::always
                : color_ == "never" ? ColorMode::never
                                    : ColorMode::automatic;
  display_->configure(quiet_, use_color(color_mode_, STDERR_FILENO));
  const Threads wanted = threads_ > 0 ? Threads(threads_) : Threads();
  context_.threads = start_threads(wanted);
  if (context_.threads.count() < wanted.count())
    note(fmt::format("the system gives {} of {} threads (ulimit?)", context_.threads.count(),
                     wanted.count()));
  outputs_ = Outputs(force_, context_.stop);
  const auto cache = find_cache_root();
  if (!cache) return;
  for (const char* part : {"objects", "results", "locks", "memo", "resume", "evaluations"})
    outputs_.keep_out(*cache / part, "the cache");
}

namespace {

// An option that nobody typed has its value from the environment: its variable is to blame.
std::string blamed(const CLI::App& app, std::span<char*> arguments, const std::string& problem) {
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = option->get_name();
    const bool typed = std::any_of(arguments.begin(), arguments.end(), [&](const char* argument) {
      return std::string_view(argument).starts_with(name);
    });
    if (!option->get_envname().empty() && !typed && problem.starts_with(name + ":"))
      return option->get_envname() + problem.substr(name.size());
  }
  return problem;
}

// Reads the command line. True: go on; false: `code` is the result (help, version, wrong usage).
bool parse(CLI::App& app, Tool& tool, int argc, char** argv, int& code) {
  try {
    app.parse(argc, argv);
    return true;
  } catch (const CLI::CallForHelp&) {
    tool.print(help_text(app));
    code = 0;
  } catch (const CLI::CallForVersion&) {
    tool.print(app.count("--json") > 0 ? version_json(tool.name()).dump() + "\n"
                                       : version_text(tool.name()));
    code = 0;
  } catch (const CLI::ParseError& error) {
    const std::span arguments(argv, static_cast<size_t>(argc));
    tool.log_error(blamed(app, arguments, parse_problem(app, error)) + "; see " + tool.name() +
                   " --help");
    code = static_cast<int>(ErrorKind::usage);
  }
  return false;
}

// Turns whatever leaves `body` into an exit code and one line.
int guarded(Tool& tool, const std::function<int()>& body) {
  try {
    return body();
  } catch (const NobodyReads&) {
    return 0;
  } catch (const Error& error) {
    tool.log_error(error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    const Error own = as_error(error);
    tool.log_error(own.what());
    return own.exit_code();
  } catch (...) {
    tool.log_error("unknown failure");
  }
  return static_cast<int>(ErrorKind::failed);
}

}  // namespace

int run_tool(int argc, char** argv, ToolText text, const ToolSetup& setup) {
  adopt_process_policy(argv);
  Tool tool(std::move(text));
  const int code = guarded(tool, [&] {
    CLI::App app(tool.text_.summary, tool.text_.name);
    tool.add_flags(app);
    const std::function<int()> work = setup(app, tool);
    set_manners(app);
    if (const auto made = generated(app, argc, argv, {version_number(), version_date()})) {
      tool.print(*made);
      return 0;
    }
    int result = 0;
    if (!parse(app, tool, argc, argv, result)) return result;
    tool.apply_flags();
    return work();
  });
  const int closing = guarded(tool, [&] {
    tool.finish_stdout();
    return 0;
  });
  return code != 0 ? code : closing;
}

}  // namespace qwb
