// A request and its answer in memory.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "lib/serve/api/exchange.h"

namespace qwb::serve {

class MemoryExchange : public Exchange {
 public:
  MemoryExchange(const std::string& path, const std::string& body)
      : request_{.method = "POST", .path = path, .body = body, .id = "test", .owner = {}} {}
  const HttpRequest& request() const override { return request_; }
  StopToken stopped() const override { return stop_.token(); }
  void stop() override { stop_.request(); }
  void send(HttpAnswer answer) override {
    status = answer.status;
    text = answer.body;
    headers_ = answer.headers;
    end_stream();
  }
  void begin_stream() override { status = 200; }
  void write(std::string frames) override { text += frames; }
  void end_stream() override {
    const std::lock_guard lock(mutex_);
    over_ = true;
    ended_.notify_all();
  }
  void later(std::function<void()> work) override { work(); }
  void note(const std::function<void(RequestRecord&)>& change) override { change(record_); }
  void wait() {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return over_; });
  }

  void if_none_match(const std::string& etag) { request_.if_none_match = etag; }
  std::string header(const std::string& name) const {
    for (const auto& [key, value] : headers_) {
      if (key == name) return value;
    }
    return {};
  }

  int status = 0;
  std::string text;

 private:
  HttpRequest request_;
  StopSource stop_;
  RequestRecord record_;
  std::vector<std::pair<std::string, std::string>> headers_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool over_ = false;
};

}  // namespace qwb::serve
