#include "tests/tools/run_helper.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace qwb::testing {
namespace {

using Clock = std::chrono::steady_clock;

struct Pair {
  int ours = -1;
  int theirs = -1;
};

Pair open_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  return {ends[0], ends[1]};
}

Pair open_terminal() {
  winsize size{};
  size.ws_col = 100;
  size.ws_row = 24;
  Pair pair;
  if (openpty(&pair.ours, &pair.theirs, nullptr, nullptr, &size) != 0)
    throw std::runtime_error("openpty");
  fcntl(pair.ours, F_SETFD, FD_CLOEXEC);
  fcntl(pair.theirs, F_SETFD, FD_CLOEXEC);
  return pair;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (std::string& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

[[noreturn]] void become(const Program& program, const RunOptions& options, int out, int err) {
  dup2(open(options.stdin_path.c_str(), O_RDONLY), STDIN_FILENO);
  dup2(options.stdout_path.empty() ? out : open(options.stdout_path.c_str(), O_WRONLY),
       STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  if (options.file_size_limit >= 0) {
    const auto limit = static_cast<rlim_t>(options.file_size_limit);
    const rlimit both{limit, limit};
    setrlimit(RLIMIT_FSIZE, &both);
  }
  program.execute();
}

// False at the end of the stream.
bool read_some(int fd, std::string& into) {
  std::array<char, 4096> buffer{};
  const ssize_t count = read(fd, buffer.data(), buffer.size());
  if (count > 0) into.append(buffer.data(), static_cast<size_t>(count));
  return count > 0;
}

void capture(pid_t child, int out, int err, const RunOptions& options, RunResult& result) {
  const auto end = Clock::now() + std::chrono::duration<double>(options.timeout);
  size_t sent = 0;
  std::array<pollfd, 2> fds{{{out, POLLIN, 0}, {err, POLLIN, 0}}};
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    poll(fds.data(), fds.size(), 50);
    if (fds[0].revents != 0 && !read_some(fds[0].fd, result.out)) fds[0].fd = -1;
    if (fds[1].revents != 0 && !read_some(fds[1].fd, result.err)) fds[1].fd = -1;
    if (sent < options.signals.size() && result.err.find(options.ready) != std::string::npos) {
      kill(child, options.signals[sent++]);
      usleep(200'000);
    }
    if (Clock::now() > end) kill(child, SIGKILL);
  }
}

}  // namespace

Program::Program(std::vector<std::string> command,
                 const std::map<std::string, std::string>& environment)
    : command_(std::move(command)) {
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string variable = *entry;
    if (!environment.contains(variable.substr(0, variable.find('='))))
      environment_.push_back(variable);
  }
  for (const auto& [name, value] : environment) {
    if (!value.empty()) environment_.push_back(name + "=" + value);
  }
  arguments_ = pointers(command_);
  variables_ = pointers(environment_);
}

void Program::execute() const {
  execve(arguments_[0], arguments_.data(), variables_.data());
  _exit(127);
}

RunOptions interrupted_at(const std::string& seen) {
  return {.terminal_stderr = true, .signals = {SIGINT}, .ready = seen};
}

RunResult run(const std::vector<std::string>& command, const RunOptions& options) {
  Pair out = open_pipe();
  const Pair err = options.terminal_stderr ? open_terminal() : open_pipe();
  const Program program(command, options.environment);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork");
  if (child == 0) become(program, options, out.theirs, err.theirs);
  close(out.theirs);
  close(err.theirs);
  if (options.close_stdout_early) {
    close(out.ours);
    out.ours = -1;
  }
  RunResult result;
  capture(child, out.ours, err.ours, options, result);
  int status = 0;
  waitpid(child, &status, 0);
  if (out.ours >= 0) close(out.ours);
  close(err.ours);
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) result.push_back(line);
  return result;
}

}  // namespace qwb::testing
