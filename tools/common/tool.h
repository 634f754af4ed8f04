// The frame of every tool: the flags that mean the same everywhere, signals, exit codes, and where
// text goes.
//
//   int main(int argc, char** argv) {
//     const qwb::ToolText text{.name = "qwb-inspect", .summary = "...", .examples = "..."};
//     return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
//       auto options = std::make_shared<Options>();
//       app.add_option("ARTIFACT", options->artifact, "...");
//       return [options, &tool] { return inspect(*options, tool); };
//     });
//   }
//
// Exit codes: the function's own result; 2 for a wrong command line; the kind of a qwb::Error
// (lib/base/error.h); 1 for any other exception and for standard output that could not be written;
// 130 after Ctrl-C. Errors are one line on stderr: "qwb-inspect: error: ...".
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "lib/base/context.h"
#include "lib/base/outputs.h"
#include "lib/base/text.h"
#include "tools/common/terminal.h"

namespace qwb {

struct ToolText {
  std::string name;          // "qwb-eval"
  std::string summary;       // what it does: first line of --help
  std::string examples;      // last lines of --help
  bool has_dry_run = false;  // offers -n, --dry-run
  bool has_threads = true;   // offers --threads
  bool writes = false;       // writes where the user says, and offers --force
};

class ProgressDisplay;

// What a running tool may use of its surroundings.
class Tool {
 public:
  explicit Tool(ToolText text);
  ~Tool();

  const std::string& name() const { return text_.name; }
  bool json() const { return json_; }        // --json: data for programs on stdout
  bool quiet() const { return quiet_; }      // -q: nothing on stderr but errors
  bool dry_run() const { return dry_run_; }  // --dry-run: tell, do not do
  bool color_stdout() const;
  // Where this run may write, and what it reads (lib/base/outputs.h): every place a user names is
  // asked for there, every input told.
  Outputs& outputs() { return outputs_; }
  void reads(const Path& input) { outputs_.input(input); }

  // Bars and notes on stderr.
  Progress& progress();
  // What this run hands to its work: --threads, Ctrl-C, and the progress above.
  const Context& context() const { return context_; }
  // From now on Ctrl-C only requests what context().stop tells, until forget_ctrl_c(), and does not
  // end the tool; other signals do, and stay (end_requested()).
  void keep_running_at_ctrl_c();
  void forget_ctrl_c();
  bool end_requested() const;
  // The work goes through one tensor after the other (lib/base/process_policy.h).
  void reuse_large_buffers();
  // One line of narration on stderr: "qwb-eval: TEXT".
  void note(const std::string& text) { progress().note(text); }
  // The same, but a text that this run has told already is not repeated.
  void note_once(const std::string& text);
  // One line on stderr that -q does not silence: "qwb-eval: error: TEXT".
  void log_error(const std::string& text);
  // Writes to stdout at once. Throws `failed` if that is impossible (disk full); ends the tool
  // quietly if nobody reads any more.
  void print(const std::string& text);
  // A table on stdout without the columns that nobody measured; on a terminal those that do not fit
  // are left out as well, and named on stderr.
  void print_table(Table table);
  std::string table_text(Table table);

 private:
  friend int run_tool(int, char**, ToolText,
                      const std::function<std::function<int()>(CLI::App&, Tool&)>&);
  void add_flags(CLI::App& app);
  void apply_flags();
  void finish_stdout();

  ToolText text_;
  std::unique_ptr<ProgressDisplay> display_;
  bool json_ = false;
  bool quiet_ = false;
  bool dry_run_ = false;
  bool force_ = false;
  bool stdout_failed_ = false;  // and that was told
  Outputs outputs_;
  std::set<std::string> noted_;
  int threads_ = 0;
  Context context_;
  std::string color_ = "auto";
  ColorMode color_mode_ = ColorMode::automatic;
};

// Adds the tool's own flags to `app` and returns its work, which runs after the command line was
// read and returns the exit code.
using ToolSetup = std::function<std::function<int()>(CLI::App& app, Tool& tool)>;

int run_tool(int argc, char** argv, ToolText text, const ToolSetup& setup);

}  // namespace qwb
