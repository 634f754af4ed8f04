#include "lib/evaluate/disturbance.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <sstream>

namespace qwb {
namespace {

double seconds_of(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double ticks_a_second() {
  static const long ticks = sysconf(_SC_CLK_TCK);
  return ticks > 0 ? static_cast<double>(ticks) : 100;
}

std::string content_of(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

}  // namespace

void read_proc_stat(const std::string& text, CpuMoment& moment) {
  std::istringstream lines(text);
  int processors = 0;
  for (std::string line; std::getline(lines, line) && line.rfind("cpu", 0) == 0;) {
    if (line[3] != ' ') {
      ++processors;
      continue;
    }
    std::istringstream fields(line.substr(4));
    double user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, soft_irq = 0, steal = 0;
    if (!(fields >> user >> nice >> system >> idle >> wait >> irq >> soft_irq)) return;
    moment.busy = (user + nice + system + irq + soft_irq) / ticks_a_second();
    if (fields >> steal) moment.stolen = steal / ticks_a_second();
  }
  if (processors > 0) moment.processors = processors;
}

CpuMoment SystemCpuWatch::now() {
  CpuMoment moment;
  read_proc_stat(content_of(stat_), moment);
  moment.own = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
  moment.wall = seconds_of(CLOCK_MONOTONIC);
  return moment;
}

std::optional<double> load_average() {
  std::istringstream text(content_of("/proc/loadavg"));
  double load = 0;
  return text >> load ? std::optional(load) : std::nullopt;
}

CpuShares shares_between(const CpuMoment& begin, const CpuMoment& end, int threads) {
  CpuShares shares;
  shares.seconds = std::max(1e-9, end.wall - begin.wall);
  const double whole = shares.seconds * std::max(1, threads), ticks = 2 / ticks_a_second();
  const double own = end.own - begin.own;
  shares.own = own / whole;
  const auto counted = [&](double seconds) { return seconds > ticks ? seconds / whole : 0; };
  if (begin.busy && end.busy) {
    const double spare = std::max(0, end.processors - threads) * shares.seconds;
    shares.others = counted(*end.busy - *begin.busy - own - spare);
  }
  if (begin.stolen && end.stolen) shares.stolen = counted(*end.stolen - *begin.stolen);
  return shares;
}

double lost_share(const CpuShares& shares, double best_own) {
  return std::max({0.0, shares.others + shares.stolen, best_own - shares.own});
}

}  // namespace qwb
