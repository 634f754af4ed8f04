#include "lib/hub/hash_follower.h"

#include <algorithm>
#include <utility>

#include "lib/base/error.h"

namespace qwb::hub {
namespace {

// Fits into the second-level cache: the copy from the page cache is then nearly free.
constexpr size_t kBlock = 256 << 10;

}  // namespace

HashFollower::HashFollower(std::function<void()> wake) : wake_(std::move(wake)), buffer_(kBlock) {
  thread_ = std::thread([this] { work(); });
}

HashFollower::~HashFollower() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void HashFollower::follow(Partial& partial, const std::string& etag) {
  {
    const std::lock_guard lock(mutex_);
    entries_.push_back(Entry{&partial, etag, Digest(etag, partial.size())});
    entries_.back().available = partial.prefix();
  }
  changed_.notify_all();
}

void HashFollower::advance(const Partial& partial, int64_t prefix) {
  bool work = false;
  {
    const std::lock_guard lock(mutex_);
    for (Entry& entry : entries_) {
      if (entry.partial != &partial) continue;
      entry.available = std::max(entry.available, prefix);
      // Not for every few bytes: waking a thread costs more than hashing them.
      work = entry.available == partial.size() ||
             entry.available - entry.hashed >= static_cast<int64_t>(kBlock);
    }
  }
  if (work) changed_.notify_all();
}

int64_t HashFollower::lag(const Partial& partial) {
  const std::lock_guard lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.partial == &partial) return entry.available - entry.hashed;
  }
  return 0;
}

void HashFollower::forget(const Partial& partial) {
  std::unique_lock lock(mutex_);
  const auto entry = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& e) { return e.partial == &partial; });
  if (entry == entries_.end()) return;
  entry->ended = true;  // no new work on it
  changed_.wait(lock, [&] { return !entry->busy; });
  entries_.erase(entry);
}

std::vector<HashFollower::Result> HashFollower::take_results() {
  const std::lock_guard lock(mutex_);
  for (const Result& result : results_) {
    entries_.remove_if([&](const Entry& entry) { return entry.partial == result.partial; });
  }
  return std::exchange(results_, {});
}

HashFollower::Entry* HashFollower::next_entry() {
  for (Entry& entry : entries_) {
    if (entry.ended || entry.busy) continue;
    const int64_t size = entry.partial->size();
    if (entry.available == size || entry.available - entry.hashed >= static_cast<int64_t>(kBlock))
      return &entry;
  }
  return nullptr;
}

void HashFollower::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    Entry* entry = nullptr;
    changed_.wait(lock, [&] { return stop_ || (entry = next_entry()) != nullptr; });
    if (stop_) return;
    entry->busy = true;
    const int64_t to = entry->available;
    int64_t hashed = entry->hashed;
    lock.unlock();
    Result result;
    const bool ended = hash_some(*entry, hashed, to, result);
    lock.lock();
    entry->hashed = hashed;
    entry->busy = false;
    if (ended && !entry->ended) {
      entry->ended = true;
      results_.push_back(result);
      wake_();
    }
    changed_.notify_all();
  }
}

bool HashFollower::hash_some(Entry& entry, int64_t& hashed, int64_t to, Result& result) {
  Partial& partial = *entry.partial;
  result.partial = &partial;
  try {
    // A bounded stretch, so that forget() and the destructor never wait long.
    to = std::min(to, hashed + (int64_t{8} << 20));
    while (hashed < to) {
      const auto count = static_cast<size_t>(std::min<int64_t>(kBlock, to - hashed));
      const MutableBytes block(buffer_.data(), count);
      if (read_at(partial.fd(), hashed, block, partial.path()) != static_cast<int64_t>(count))
        throw Error(ErrorKind::failed, "the file became shorter while it was being written",
                    partial.path().string());
      entry.digest.update(block);
      hashed += static_cast<int64_t>(count);
    }
    if (hashed < partial.size()) return false;
    result.hash = entry.digest.finish();
    if (result.hash == entry.etag) partial.seal();
  } catch (...) {
    result.error = std::current_exception();
  }
  return true;
}

}  // namespace qwb::hub
