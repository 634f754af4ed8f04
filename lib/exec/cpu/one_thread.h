// oneDNN parallelises by itself unless it runs inside a parallel region; its split would change the
// order of sums. While one of these lives, regions opened from this thread get one thread.
#pragma once

#include <omp.h>

namespace qwb {

class OneThread {
 public:
  OneThread() : saved_(omp_in_parallel() != 0 ? 0 : omp_get_max_threads()) {
    if (saved_ > 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (saved_ > 1) omp_set_num_threads(saved_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int saved_;
};

}  // namespace qwb
