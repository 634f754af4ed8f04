// Measures how much processor time a measurement really got: a figure taken while the machine did
// other work says nothing about the model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace qwb {

// The readings of all clocks at one moment, in seconds since some origin.
struct CpuMoment {
  double wall = 0;
  double own = 0;                // processor time of this process, all threads
  std::optional<double> busy;    // of all processes on all processors of the machine (/proc/stat)
  std::optional<double> stolen;  // taken by the hypervisor for other guests (/proc/stat)
  int processors = 1;            // that `busy` and `stolen` are of
};

// The clocks; tests have others.
class CpuWatch {
 public:
  virtual ~CpuWatch() = default;
  virtual CpuMoment now() = 0;
};

// This machine's. Without /proc/stat only `wall` and `own` are known.
class SystemCpuWatch : public CpuWatch {
 public:
  explicit SystemCpuWatch(std::filesystem::path stat = "/proc/stat") : stat_(std::move(stat)) {}
  CpuMoment now() override;

 private:
  std::filesystem::path stat_;
};

// `busy`, `stolen` and `processors` of the text of /proc/stat; nothing if it is not understood.
void read_proc_stat(const std::string& text, CpuMoment& moment);

// The load average of the last minute; nothing without /proc/loadavg.
std::optional<double> load_average();

// Shares of wall x threads between two moments.
struct CpuShares {
  double seconds = 0;  // wall
  double own = 0;      // what this process got; less than 1 where threads wait for each other, too
  double others = 0;   // what other processes took beyond the processors that were to spare
  double stolen = 0;
};
// The kernel counts others' time in ticks: less than two of them are not counted.
CpuShares shares_between(const CpuMoment& begin, const CpuMoment& end, int threads);

// The share of its processor time that a repetition lost, as far as the clocks show it: stolen,
// taken by others, or missing against the best repetition of the same work.
double lost_share(const CpuShares& shares, double best_own);
inline constexpr double kDisturbed = 0.05;  // a repetition that lost more is repeated

}  // namespace qwb
