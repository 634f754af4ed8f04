#include "lib/report/gnuplot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "lib/base/error.h"
#include "lib/report/gnuplot_script.h"
#include "lib/report/svg.h"

namespace qwb::report {
namespace {

constexpr std::chrono::seconds kPatience{120};
constexpr double kPngFont = 0.72;  // points of pngcairo for a pixel of a font

// A folder for gnuplot's files, removed with the object.
class WorkFolder {
 public:
  WorkFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "qwb-report-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr)
      throw system_error("cannot make a folder in", name, errno);
    path_ = name;
  }
  ~WorkFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  const Path& path() const { return path_; }

 private:
  Path path_;
};

pid_t start(const Path& gnuplot, const Path& folder) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, (folder / "errors").c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  // -d: no start-up files, system's or user's.
  // UTF-8 and points in numbers whatever the user's locale.
  std::string program = std::filesystem::absolute(gnuplot).string(), flag = "-d", script = "script";
  std::array<char*, 4> arguments{program.data(), flag.data(), script.data(), nullptr};
  std::string path =
      std::string("PATH=") + (std::getenv("PATH") != nullptr ? std::getenv("PATH") : "");
  std::string locale = "LC_ALL=C.UTF-8", home = "HOME=" + folder.string();
  std::array<char*, 4> environment{path.data(), locale.data(), home.data(), nullptr};
  pid_t process = -1;
  const int error = ::posix_spawn(&process, program.c_str(), &actions, nullptr, arguments.data(),
                                  environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw system_error("cannot start", gnuplot.string(), error);
  return process;
}

int wait_for(pid_t process, const StopToken& stop) {
  const auto limit = std::chrono::steady_clock::now() + kPatience;
  int status = 0;
  while (::waitpid(process, &status, WNOHANG) == 0) {
    const bool late = std::chrono::steady_clock::now() > limit;
    if (late || stop.requested()) {
      ::kill(process, SIGKILL);
      ::waitpid(process, &status, 0);
      stop.check();
      throw Error(ErrorKind::failed, "gnuplot did not end in two minutes");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return status;
}

// Warnings and the faulty command come before an error.
std::string last_line(const std::string& text) {
  const size_t end = text.find_last_not_of(" \n");
  if (end == std::string::npos) return {};
  const size_t before = text.rfind('\n', end);
  const size_t begin = before == std::string::npos ? 0 : before + 1;
  return text.substr(begin, std::min<size_t>(end + 1 - begin, 400));
}

void run_gnuplot(const Path& gnuplot, const Path& folder, const std::string& script,
                 const StopToken& stop) {
  write_file_atomically(folder / "script", as_bytes(script));
  const int status = wait_for(start(gnuplot, folder), stop);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  const std::string words = last_line(read_text(folder / "errors"));
  const bool no_png = words.find("unknown or ambiguous terminal") != std::string::npos;
  if (no_png)
    throw Error(ErrorKind::unsupported, "this gnuplot cannot draw PNG or SVG", gnuplot.string(),
                gnuplot_advice());
  throw Error(ErrorKind::failed, "gnuplot failed: " + words, gnuplot.string());
}

// Files are named by number: names of plots come from files.
std::string terminal(size_t number, int height, bool png) {
  const std::string output = gnuplot_quoted(fmt::format("{}.{}", number, png ? "png" : "svg"));
  if (!png) {
    return fmt::format(
        "set terminal svg noenhanced size {},{} dynamic font 'sans-serif,{}'\nset output {}\n{} = "
        "1\n",
        kPlotWidth, height, kPlotFont, output, kFontScale);
  }
  return fmt::format(
      "set terminal pngcairo noenhanced size {},{} font 'sans,{:.3g}' fontscale 2 linewidth 2 "
      "pointscale 2 "
      "background rgb 'white'\nset output {}\n{} = {}\n",
      2 * kPlotWidth, 2 * height, kPlotFont * kPngFont, output, kFontScale, kPngFont);
}

}  // namespace

std::optional<Path> find_gnuplot() {
  const char* variable = std::getenv("PATH");
  const std::string path = variable != nullptr ? variable : "";
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const Path candidate = Path(path.substr(begin, end - begin)) / "gnuplot";
    std::error_code ignored;
    if (end > begin && std::filesystem::is_regular_file(candidate, ignored) &&
        ::access(candidate.c_str(), X_OK) == 0)
      return candidate;
    begin = end + 1;
  }
  return std::nullopt;
}

std::string gnuplot_advice() {
  return "apt-get install gnuplot-nox (Debian, Ubuntu), or any gnuplot from 5.4 on in the PATH";
}

std::vector<Picture> draw_plots(const Path& gnuplot, const std::vector<Plot>& plots, bool captioned,
                                bool png, const StopToken& stop) {
  const WorkFolder folder;
  std::vector<Picture> pictures;
  std::string script;
  for (size_t i = 0; i < plots.size(); ++i) {
    const PlotScript plot = gnuplot_script(plots[i], captioned);
    for (const bool as_png : {false, true}) {
      if (as_png && !png) continue;
      script += terminal(i, plot.height, as_png) + plot.text + "unset output\n";
    }
    pictures.push_back({plots[i].name, kPlotWidth, plot.height, {}, {}});
  }
  if (plots.empty()) return pictures;
  run_gnuplot(gnuplot, folder.path(), script, stop);
  for (size_t i = 0; i < plots.size(); ++i) {
    pictures[i].svg = finished_svg(read_text(folder.path() / fmt::format("{}.svg", i)),
                                   plots[i].title, plots[i].summary);
    if (png) pictures[i].png = read_text(folder.path() / fmt::format("{}.png", i));
  }
  return pictures;
}

}  // namespace qwb::report
