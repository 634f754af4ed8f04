// qwb-pull: checkpoints and data sets from the Hugging Face Hub. A thin main over lib/hub.
#include <fmt/format.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/base/text.h"
#include "lib/hub/client.h"
#include "lib/hub/pull.h"
#include "tools/common/tool.h"

namespace qwb {
namespace {

constexpr const char* kExamples =
    "Examples:\n"
    "  qwb-pull mistralai/Mistral-7B-Instruct-v0.2       config, tokenizer and safetensors; prints "
    "the "
    "folder\n"
    "  qwb-pull gpt2@607a30d783dfa663caf39e06633721c8d4cfcd7e -q\n"
    "  qwb-pull --dataset GAIR/lima --include train.jsonl\n"
    "  qwb-pull meta-llama/Llama-3.2-1B --dry-run        what there is and what is missing\n"
    "  qwb-pull --login                                  stores a token for gated models\n"
    "The cache is the one of huggingface_hub (HF_HOME, HF_HUB_CACHE); HF_ENDPOINT, HF_TOKEN and "
    "HF_HUB_OFFLINE are "
    "honoured.";

struct Options {
  std::string repo;
  bool dataset = false, login = false;
  std::vector<std::string> include, exclude;
  std::string local_dir;
};

void add_options(CLI::App& app, Options& o) {
  app.add_option("REPO", o.repo,
                 "Repository on the Hub, with @REVISION (branch, tag or commit) if wanted")
      ->type_name("");
  app.add_option("--model", o.repo, "the same as REPO")->type_name("REPO");
  app.add_flag("--dataset", o.dataset, "REPO is a data set, not a model");
  app.add_option(
         "--include", o.include,
         "Pull the files that match, instead of what the tools need (repeatable; * matches / too)")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  app.add_option("--exclude", o.exclude, "Leave out the files that match (repeatable)")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  app.add_option("--local-dir", o.local_dir, "Put the files into this folder instead of the cache")
      ->type_name("DIR");
  app.add_flag("--login", o.login,
               "Read a token, without echo on a terminal, and store it for this user alone");
}

// While it lives, the terminal behind stdin shows nothing that is typed.
class NoEcho {
 public:
  NoEcho() {
    if (::tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    active_ = ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) == 0;
  }
  ~NoEcho() {
    if (active_) ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
  }
  NoEcho(const NoEcho&) = delete;
  NoEcho& operator=(const NoEcho&) = delete;
  bool active() const { return active_; }

 private:
  termios before_{};
  bool active_ = false;
};

void say(const std::string& text) {
  if (::write(STDERR_FILENO, text.data(), text.size()) < 0) return;  // nobody to be asked
}

std::string read_line(const StopToken& stop) {
  std::string line;
  for (;;) {
    char c = 0;
    const ssize_t count = ::read(STDIN_FILENO, &c, 1);
    const int reason = errno;
    stop.check();
    if (count < 0 && reason == EINTR) continue;
    if (count < 0) throw system_error("cannot read the token", "standard input", reason);
    if (count == 0 || c == '\n') return line;
    line += c;
    if (line.size() > 8192) return line;
  }
}

std::string ask_for_token(const hub::HubSettings& settings, const StopToken& stop) {
  const NoEcho silence;
  if (!silence.active()) return hub::clean_token(read_line(stop));
  say("Token (from " + settings.endpoint + "/settings/tokens; it is not shown): ");
  std::string token = hub::clean_token(read_line(stop));
  say("\n");
  return token;
}

int login(Tool& tool) {
  hub::HubSettings settings = hub::HubSettings::from_environment();
  settings.token = ask_for_token(settings, tool.context().stop);
  settings.token_place = "what was typed";
  if (settings.token.empty()) throw Error(ErrorKind::usage, "no token was given");
  std::string name;
  if (!settings.offline) {
    hub::Http http(settings);
    name = hub::HubClient(http, settings, tool.context()).whoami();
  }
  hub::store_token(settings, settings.token);
  if (tool.json()) {
    const Json record = {
        {"schema", 1}, {"token_file", settings.token_file.string()}, {"name", name}};
    tool.print(record.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  tool.note((name.empty() ? "the token could not be tried; it is stored in "
                          : "logged in as " + name + "; the token is in ") +
            settings.token_file.string());
  return 0;
}

Json plan_json(const hub::PullPlan& plan, const hub::RepoName& repo) {
  Json files = Json::array();
  for (const hub::PlannedFile& file : plan.files) {
    files.push_back({{"path", file.file.path},
                     {"bytes", file.file.size},
                     {"hash", file.file.etag.empty() ? Json(nullptr) : Json(file.file.etag)},
                     {"here", file.here},
                     {"bytes_here", file.on_disk}});
  }
  return {{"schema", 1},
          {"repo", repo.id},
          {"kind", repo.kind == hub::RepoKind::model ? "model" : "dataset"},
          {"revision", repo.revision},
          {"commit", plan.commit},
          {"path", plan.folder.string()},
          {"bytes", plan.bytes()},
          {"missing_bytes", plan.missing_bytes()},
          {"files", files}};
}

void print_json(const Json& record, Tool& tool) {
  tool.print(record.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

int show_plan(const hub::PullPlan& plan, const hub::RepoName& repo, Tool& tool) {
  if (tool.json()) {
    print_json(plan_json(plan, repo), tool);
    return 0;
  }
  using Align = Table::Align;
  Table table({{"file"}, {"bytes", Align::right}, {"here", Align::right}});
  for (const hub::PlannedFile& file : plan.files) {
    table.add_row({file.file.path, std::to_string(file.file.size),
                   file.here          ? "yes"
                   : file.on_disk > 0 ? human_bytes(file.on_disk)
                                      : "no"});
  }
  tool.print_table(std::move(table));
  tool.print(fmt::format("{} files, {}; to download: {} files, {}\n{}\n", plan.files.size(),
                         human_bytes(plan.bytes()), plan.missing_files(),
                         human_bytes(plan.missing_bytes()), plan.folder.string()));
  return 0;
}

int pull(const Options& o, Tool& tool) {
  if (o.login) {
    if (!o.repo.empty()) throw Error(ErrorKind::usage, "--login takes no repository");
    return login(tool);
  }
  if (o.repo.empty()) throw Error(ErrorKind::usage, "no repository given; see qwb-pull --help");
  const hub::HubSettings settings = hub::HubSettings::from_environment();
  hub::PullRequest request;
  request.repo = hub::parse_repo(o.repo, o.dataset ? hub::RepoKind::dataset : hub::RepoKind::model);
  request.selection = {o.include, o.exclude};
  if (!o.local_dir.empty())
    request.local_dir = tool.outputs().folder_for_files(o.local_dir, "--local-dir");
  request.force = tool.outputs().force();
  hub::Pull work(settings, request, tool.context());
  if (tool.dry_run()) return show_plan(work.plan(), request.repo, tool);
  const hub::PullPlan plan = work.run();
  if (plan.missing_files() == 0) tool.note("all is here already");
  if (tool.json()) {
    print_json(plan_json(plan, request.repo), tool);
  } else {
    tool.print(plan.folder.string() + "\n");
  }
  return 0;
}

}  // namespace
}  // namespace qwb

int main(int argc, char** argv) {
  const qwb::ToolText text = {
      .name = "qwb-pull",
      .summary = "Downloads models and data sets from the Hugging Face Hub into its cache.",
      .examples = qwb::kExamples,
      .has_dry_run = true,
      .has_threads = false,
      .writes = true};
  return qwb::run_tool(argc, argv, text, [](CLI::App& app, qwb::Tool& tool) {
    auto options = std::make_shared<qwb::Options>();
    qwb::add_options(app, *options);
    return [options, &tool] { return qwb::pull(*options, tool); };
  });
}
