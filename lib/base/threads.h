// How many threads a piece of work may use: a count that its loops are given (parallel.h). Each
// thread of the host program has a team of its own for them.
#pragma once

namespace qwb {

// The processors this process may run on: affinity, cpusets, and the quotas of its control groups
// (a quota of 1.5 processors is 2 threads).
int available_processors();

class Threads {
 public:
  Threads();                    // available_processors(), fewer if OMP_NUM_THREADS says so
  explicit Threads(int count);  // throws usage unless count >= 1
  int count() const { return count_; }

 private:
  int count_;
};

}  // namespace qwb
