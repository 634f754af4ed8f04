#include "tools/chat/input_history.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <sstream>
#include <system_error>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/json.h"

namespace qwb {
namespace {

constexpr size_t kKeptTexts = 1000;
constexpr int64_t kLargestHistory = 4 << 20;  // bytes; a longer file is cut to what is kept

std::string history_line(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// A descriptor that closes itself.
struct Descriptor {
  explicit Descriptor(int number) : fd(number) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int fd;
};

void write_history(const Path& file, int flags, const std::string& text) {
  const Descriptor target(::open(file.c_str(), flags | O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (target.fd < 0) throw system_error("cannot be written", file.string(), errno);
  ::fchmod(target.fd, 0600);
  if (::write(target.fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    throw system_error("cannot be written", file.string(), errno);
}

}  // namespace

Path history_file() {
  const auto folder = [](const char* variable) -> Path {
    const char* value = std::getenv(variable);
    return value != nullptr && *value == '/' ? Path(value) : Path();
  };
  if (const Path state = folder("XDG_STATE_HOME"); !state.empty())
    return state / "qwb" / "chat_history";
  const Path home = folder("HOME");
  return home.empty() ? Path() : home / ".local" / "state" / "qwb" / "chat_history";
}

InputHistory::InputHistory(Path file) : file_(std::move(file)) {
  std::error_code ignored;
  if (!file_.empty() && std::filesystem::exists(file_, ignored)) load();
}

void InputHistory::load() {
  std::istringstream lines(read_text(file_));
  int64_t bytes = 0;
  for (std::string line; std::getline(lines, line);) {
    bytes += std::ssize(line) + 1;
    const Json text = Json::parse(line, nullptr, false);
    if (text.is_string()) texts_.push_back(text.get<std::string>());
  }
  if (texts_.size() > kKeptTexts)
    texts_.erase(texts_.begin(), texts_.end() - static_cast<std::ptrdiff_t>(kKeptTexts));
  if (bytes <= kLargestHistory) return;
  std::string kept;
  for (const std::string& text : texts_) kept += history_line(text);
  const Path fresh = temporary_sibling(file_);
  write_history(fresh, O_EXCL, kept);
  std::filesystem::rename(fresh, file_);
}

void InputHistory::add(const std::string& text) {
  if (text.empty() || (!texts_.empty() && texts_.back() == text)) return;
  texts_.push_back(text);
  if (file_.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(file_.parent_path(), error);
  if (error) throw system_error("cannot be made", file_.parent_path().string(), error.value());
  write_history(file_, O_APPEND, history_line(text));
}

}  // namespace qwb
