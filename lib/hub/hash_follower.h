// Hashes files while they are still being downloaded: one thread reads what has come, as far as it
// is without a gap.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lib/hub/digest.h"
#include "lib/hub/partial.h"

namespace qwb::hub {

class HashFollower {
 public:
  struct Result {
    Partial* partial = nullptr;
    std::string hash;
    std::exception_ptr error;  // reading or flushing failed
  };

  // `wake` is called from the follower's thread when a result is there.
  explicit HashFollower(std::function<void()> wake);
  ~HashFollower();
  HashFollower(const HashFollower&) = delete;
  HashFollower& operator=(const HashFollower&) = delete;

  // Follows a file until its result was taken or forget(). It must stay where it is.
  void follow(Partial& partial, const std::string& etag);
  // The first `prefix` bytes are there for good.
  void advance(const Partial& partial, int64_t prefix);
  void forget(const Partial& partial);
  // Bytes that could be hashed and are not yet.
  int64_t lag(const Partial& partial);
  // Files that are whole and hashed. Where the hash is the etag's, the file has been sealed
  // (Partial::seal).
  std::vector<Result> take_results();

 private:
  struct Entry {
    Partial* partial;
    std::string etag;
    Digest digest;
    int64_t hashed = 0;
    int64_t available = 0;
    bool busy = false;
    bool ended = false;
  };
  void work();
  Entry* next_entry();
  // Outside the lock: hashes from `hashed`, which it moves, to `to`, and at the end of the file
  // gives its result.
  bool hash_some(Entry& entry, int64_t& hashed, int64_t to, Result& result);

  std::function<void()> wake_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Entry> entries_;
  std::vector<Result> results_;
  std::vector<std::byte> buffer_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace qwb::hub
