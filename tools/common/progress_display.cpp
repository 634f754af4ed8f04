#include "tools/common/progress_display.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "lib/base/text.h"
#include "tools/common/terminal.h"

namespace qwb {
namespace {

constexpr double kRedraw = 0.1;       // seconds between two drawings of the bar
constexpr double kPlainInterval = 5;  // seconds between two plain lines
constexpr double kShortTask = 2;      // seconds below which a task leaves no trace
constexpr double kMemory = 15;        // seconds after which an interval weighs 1/e in the rate
constexpr int64_t kBarWidth = 24;
constexpr int64_t kManyUnits = 1'000'000;

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void write_stderr(const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::write(STDERR_FILENO, text.data() + done, text.size() - done);
    if (count <= 0) return;  // nobody can be told
    done += static_cast<size_t>(count);
  }
}

std::string bar(double fraction) {
  const auto filled = static_cast<int64_t>(std::clamp(fraction, 0.0, 1.0) * kBarWidth);
  return "[" + std::string(static_cast<size_t>(filled), '#') +
         std::string(static_cast<size_t>(kBarWidth - filled), '.') + "]";
}

}  // namespace

ProgressDisplay::ProgressDisplay(Settings settings) : settings_(std::move(settings)) {
  if (!settings_.clock) settings_.clock = steady_seconds;
  if (!settings_.write) settings_.write = write_stderr;
  if (!settings_.width) settings_.width = [] { return terminal_width(STDERR_FILENO); };
}

ProgressDisplay::~ProgressDisplay() {
  const std::lock_guard lock(mutex_);
  clear_bar();
}

void ProgressDisplay::configure(bool quiet, bool color) {
  const std::lock_guard lock(mutex_);
  settings_.quiet = quiet;
  settings_.color = color;
}

void ProgressDisplay::begin(const std::string& task, int64_t total) {
  const std::lock_guard lock(mutex_);
  if (!task_.empty()) finish_task();
  task_ = task.empty() ? "working" : task;
  detail_.clear();
  total_ = std::max<int64_t>(total, 0);
  done_ = 0;
  recent_units_ = recent_seconds_ = 0;
  began_ = last_advance_ = settings_.clock();
  // The first plain line comes once the task has shown not to be a short one.
  last_output_ = settings_.terminal ? began_ : began_ + kShortTask - kPlainInterval;
  if (settings_.terminal) draw_bar(began_);
}

void ProgressDisplay::advance(int64_t units, const std::string& detail) {
  const std::lock_guard lock(mutex_);
  if (task_.empty()) return;
  const double now = settings_.clock();
  const double elapsed = std::max(now - last_advance_, 0.0);
  const double decay = std::exp(-elapsed / kMemory);
  recent_units_ = recent_units_ * decay + static_cast<double>(units);
  recent_seconds_ = recent_seconds_ * decay + elapsed;
  last_advance_ = now;
  done_ += units;
  detail_ = detail;
  if (settings_.terminal) {
    if (now - last_output_ >= kRedraw || (total_ > 0 && done_ >= total_)) draw_bar(now);
  } else if (now - last_output_ >= kPlainInterval) {
    plain_line(now);
  }
}

void ProgressDisplay::end() {
  const std::lock_guard lock(mutex_);
  if (!task_.empty()) finish_task();
}

void ProgressDisplay::note(const std::string& text) {
  const std::lock_guard lock(mutex_);
  if (settings_.quiet) return;
  const bool redraw = bar_visible_;
  clear_bar();
  settings_.write(settings_.name + ": " + text + "\n");
  if (redraw) draw_bar(settings_.clock());
}

void ProgressDisplay::suspend(const std::function<void()>& action) {
  const std::lock_guard lock(mutex_);
  const bool redraw = bar_visible_;
  clear_bar();
  action();
  if (redraw) draw_bar(settings_.clock());
}

double ProgressDisplay::rate() const {
  return recent_seconds_ > 0 ? recent_units_ / recent_seconds_ : 0;
}

void ProgressDisplay::finish_task() {
  clear_bar();
  const double seconds = settings_.clock() - began_;
  if (!settings_.quiet && seconds >= kShortTask) {
    const std::string speed =
        done_ > 0 ? fmt::format(", {}/s", human_number(static_cast<double>(done_) / seconds)) : "";
    const std::string tail = detail_.empty() ? "" : ", " + detail_;
    settings_.write(fmt::format("{}: {}: {} in {}{}{}\n", settings_.name, task_, done_,
                                human_duration(seconds), speed, tail));
  }
  task_.clear();
}

void ProgressDisplay::clear_bar() {
  if (bar_visible_) settings_.write("\r\x1b[K");
  bar_visible_ = false;
}

std::string ProgressDisplay::figures(double now) const {
  std::string text;
  if (total_ > 0) {
    const auto done = static_cast<double>(done_), total = static_cast<double>(total_);
    text = fmt::format("{:3.0f}% ", 100.0 * std::min(1.0, done / total));
    // Bytes, say: nobody reads ten digits that change ten times a second.
    text += total_ < kManyUnits ? fmt::format("{}/{}", done_, total_)
                                : human_number(done) + "/" + human_number(total);
  } else if (done_ > 0) {
    text = fmt::format("{}", done_);
  }
  if (rate() > 0) text += fmt::format("  {}/s", human_number(rate()));
  if (total_ > done_ && rate() > 0) {
    const double left = static_cast<double>(total_ - done_) / rate() - (now - last_advance_);
    text += "  ETA " + human_duration(std::round(std::max(left, 1.0)));
  }
  if (!detail_.empty()) text += "  " + detail_;
  return text;
}

void ProgressDisplay::draw_bar(double now) {
  last_output_ = now;
  if (settings_.quiet) return;
  const int64_t width = settings_.width() - 1;  // a full line would wrap
  std::string line = task_ + " ";
  const double fraction = total_ > 0 ? static_cast<double>(done_) / static_cast<double>(total_) : 0;
  const std::string tail = figures(now);
  if (total_ > 0 && display_width(line) + kBarWidth + 3 + display_width(tail) <= width)
    line += bar(fraction) + " ";
  line = fit_width(line + tail, width);
  if (settings_.color && line.starts_with(task_))
    line = "\x1b[36m" + task_ + "\x1b[0m" + line.substr(task_.size());
  settings_.write("\r" + line + "\x1b[K");
  bar_visible_ = true;
}

void ProgressDisplay::plain_line(double now) {
  last_output_ = now;
  if (!settings_.quiet)
    settings_.write(fmt::format("{}: {}: {}\n", settings_.name, task_, figures(now)));
}

}  // namespace qwb
