// Asking work to stop: whoever started it keeps the source, the work holds tokens and looks at them
// between its steps.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

namespace qwb {

// Cheap to copy and to ask; safe from any thread.
class StopToken {
 public:
  StopToken() = default;  // nobody ever asks to stop
  explicit StopToken(std::shared_ptr<const std::atomic<bool>> flag) : flag_(std::move(flag)) {}

  bool requested() const { return flag_ != nullptr && flag_->load(std::memory_order_relaxed); }
  // Throws Error{interrupted} if a stop was requested. Cheap enough for inner loops of a
  // millisecond or more.
  void check() const;

 private:
  std::shared_ptr<const std::atomic<bool>> flag_;
};

class StopSource {
 public:
  StopSource() : flag_(std::make_shared<std::atomic<bool>>(false)) {}
  // Once requested, a stop stays requested.
  void request() { flag_->store(true, std::memory_order_relaxed); }
  StopToken token() const { return StopToken(flag_); }

 private:
  std::shared_ptr<std::atomic<bool>> flag_;
};

}  // namespace qwb
