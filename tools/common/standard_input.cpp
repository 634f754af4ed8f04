#include "tools/common/standard_input.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "lib/base/error.h"
#include "lib/base/text_file.h"

namespace qwb {

std::string read_standard_input(const StopToken& stop) {
  std::string text;
  std::array<char, 1 << 16> piece{};
  for (;;) {
    const ssize_t count = ::read(STDIN_FILENO, piece.data(), piece.size());
    const int reason = errno;
    stop.check();
    if (count < 0 && reason == EINTR) continue;
    if (count < 0) throw system_error("cannot read", "standard input", reason);
    if (count == 0) return checked_text(std::move(text), "standard input");
    text.append(piece.data(), static_cast<size_t>(count));
  }
}

std::string read_prompt_file(const std::string& file, const StopToken& stop) {
  std::string text = file == "-" ? read_standard_input(stop) : read_text_file(file);
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace qwb
