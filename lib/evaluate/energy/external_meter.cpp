#include "lib/evaluate/energy/external_meter.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <utility>

#include "lib/base/error.h"
#include "lib/evaluate/energy/meter_series.h"

namespace qwb {
namespace {

using Milliseconds = std::chrono::milliseconds;

constexpr int kPollMilliseconds = 50;
constexpr Milliseconds kAgain{100};  // before a command that ended is run again
constexpr Milliseconds kPatience{
    3000};  // for the first reading after a window's end, and for SIGTERM

// A running command: its output comes by a pipe, its error messages are kept in memory.
class Command {
 public:
  explicit Command(const std::string& text) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
      throw system_error("cannot make a pipe for", text, errno);
    output_ = ends[0];
    complaints_ = ::memfd_create("meter", MFD_CLOEXEC);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    if (complaints_ >= 0) posix_spawn_file_actions_adddup2(&actions, complaints_, 2);
    posix_spawnattr_init(&attributes);
    // The command has a process group of its own: Ctrl-C in the terminal reaches only us, and
    // SIGTERM also reaches the shell's children.
    posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes, &signals);
    for (const int signal : {SIGINT, SIGTERM, SIGPIPE}) sigaddset(&signals, signal);
    posix_spawnattr_setsigdefault(&attributes, &signals);
    std::string shell = "sh", flag = "-c", script = text;
    std::array<char*, 4> arguments{shell.data(), flag.data(), script.data(), nullptr};
    const int error =
        ::posix_spawn(&process_, "/bin/sh", &actions, &attributes, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    ::close(ends[1]);
    if (error != 0) {
      close_all();
      throw system_error("cannot start a shell for", text, error);
    }
  }
  ~Command() {
    if (process_ > 0) end();
    close_all();
  }
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  int output() const { return output_; }
  // Waits for the end of the command after it closed its output; returns its error, or "".
  std::string finish() {
    int status = 0;
    while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
    }
    process_ = -1;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
    const std::string how = WIFEXITED(status) ? fmt::format("exit code {}", WEXITSTATUS(status))
                                              : fmt::format("signal {}", WTERMSIG(status));
    const std::string words = complaint();
    return words.empty() ? how : how + ": " + words;
  }

 private:
  std::string complaint() const {
    std::array<char, 300> text{};
    const ssize_t count =
        complaints_ < 0 ? 0 : ::pread(complaints_, text.data(), text.size() - 1, 0);
    const std::string all(text.data(), static_cast<size_t>(std::max<ssize_t>(count, 0)));
    return all.substr(0, all.find('\n'));
  }
  void end() {
    ::kill(-process_, SIGTERM);
    const auto limit = std::chrono::steady_clock::now() + kPatience;
    int status = 0;
    while (::waitpid(process_, &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > limit) ::kill(-process_, SIGKILL);
      std::this_thread::sleep_for(Milliseconds(5));
    }
  }
  void close_all() {
    ::close(output_);
    if (complaints_ >= 0) ::close(complaints_);
  }

  pid_t process_ = -1;
  int output_ = -1;
  int complaints_ = -1;
};

class ExternalMeter : public EnergySource {
 public:
  ExternalMeter(std::string command, std::function<double()> clock)
      : text_(std::move(command)),
        clock_(std::move(clock)),
        command_(std::make_unique<Command>(text_)) {
    reader_ = std::thread([this] { read_until_stopped(); });
  }
  ~ExternalMeter() override {
    stopping_ = true;
    reader_.join();
  }

  void start(double now) override { began_ = now; }
  void sample(double) override {}
  EnergyOutcome stop(double now) override {
    std::unique_lock lock(mutex_);
    read_.wait_for(lock, kPatience,
                   [&] { return !failure_.empty() || series_.last_time() >= now; });
    std::string why = failure_;
    const std::optional<double> joules =
        failure_.empty() ? series_.joules(began_, now, why) : std::nullopt;
    if (!joules) return {std::nullopt, fmt::format("the meter `{}`: {}", text_, why)};
    const double seconds = now - began_;
    return {EnergyFigure{*joules,
                         "external-meter",
                         text_,
                         "machine",
                         "measured",
                         seconds,
                         seconds > 0 ? *joules / seconds : 0,
                         "",
                         {}},
            ""};
  }
  double sample_interval() const override { return 5; }
  Scope scope() const override { return Scope::machine; }
  std::optional<CounterInfo> find_step(const std::function<double()>& /*clock*/) override {
    std::unique_lock lock(mutex_);
    read_.wait_for(lock, 2 * kPatience, [&] { return !failure_.empty() || series_.size() >= 4; });
    const auto step = series_.step();
    return step ? std::optional(CounterInfo{text_, "external-meter", *step}) : std::nullopt;
  }

 private:
  void fail(const std::string& why) {
    const std::lock_guard lock(mutex_);
    if (failure_.empty()) failure_ = why;
    read_.notify_all();
  }
  // Hands complete lines to the series. False once a line is not a reading.
  bool take(const std::string& bytes, bool& any) {
    const double now = clock_();
    const std::lock_guard lock(mutex_);
    rest_ += bytes;
    for (size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n')) {
      any |= end > 0;
      if (!series_.add(rest_.substr(0, end), now)) failure_ = series_.reason();
      rest_.erase(0, end + 1);
    }
    if (rest_.size() > 4096) failure_ = "it prints no lines";
    read_.notify_all();
    return failure_.empty();
  }
  // Until the command ends. False if it did so wrongly.
  bool read_command() {
    bool any = false;
    while (!stopping_) {
      pollfd waiting{command_->output(), POLLIN, 0};
      if (::poll(&waiting, 1, kPollMilliseconds) <= 0) continue;
      std::array<char, 4096> bytes{};
      const ssize_t count = ::read(command_->output(), bytes.data(), bytes.size());
      if (count > 0 && !take(std::string(bytes.data(), static_cast<size_t>(count)), any))
        return false;
      if (count > 0) continue;
      if (!take("\n", any)) return false;  // the last line may lack its end
      std::string problem = command_->finish();
      if (problem.empty() && !any) problem = "it ended without a reading";
      if (!problem.empty()) fail(problem);
      return problem.empty();
    }
    return false;
  }
  void read_until_stopped() {
    try {
      while (read_command()) {
        std::this_thread::sleep_for(kAgain);
        command_ = std::make_unique<Command>(text_);
      }
    } catch (const Error& error) {
      fail(error.what());
    }
  }

  std::string text_;
  std::function<double()> clock_;
  std::unique_ptr<Command> command_;  // the reader's, once it runs
  std::string rest_;
  std::mutex mutex_;
  std::condition_variable read_;
  MeterSeries series_;
  std::string failure_;
  std::atomic<bool> stopping_{false};
  std::thread reader_;
  double began_ = 0;
};

}  // namespace

std::unique_ptr<EnergySource> external_meter(const std::string& command,
                                             std::function<double()> clock) {
  return std::make_unique<ExternalMeter>(command, std::move(clock));
}

}  // namespace qwb
