// A browser without a window, driven through chromedriver's HTTP protocol (W3C WebDriver).
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb::serve {

// Keys that are no characters, as WebDriver writes them.
inline constexpr const char *kTab = "\uE004", *kEnter = "\uE007", *kEscape = "\uE00C",
                            *kControl = "\uE009", *kAlt = "\uE00A", *kRight = "\uE014";

class Browser {
 public:
  // Null where chromium or chromedriver is missing or does not start; `reason` tells it. Files are
  // saved into `downloads`.
  static std::unique_ptr<Browser> start(const Path& downloads, std::string& reason);
  ~Browser();
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  void open(const std::string& url);
  // The value of a function's body; `arguments` hold the arguments.
  Json run(const std::string& body, const Json& arguments = Json::array());
  // The same for a body that calls its last argument with the value.
  Json run_later(const std::string& body, const Json& arguments = Json::array());
  // Runs the body again and again until it is true; false if it is not so within seconds.
  bool wait(const std::string& body, double seconds = 20);
  // Presses the keys one after the other, `held` down all the while.
  void press(const std::vector<std::string>& keys, const std::string& held = {});
  // Types into an element, or chooses the file of an <input type="file">.
  void type(const std::string& selector, const std::string& text);
  // A command of Chromium's own protocol.
  Json command(const std::string& name, const Json& parameters);
  void width(int pixels);
  void dark(bool on);
  // PNG.
  void picture(const Path& file);

 private:
  Browser() = default;
  Json call(const std::string& method, const std::string& path, const Json* body = nullptr);
  std::string session(const std::string& path) const { return "/session/" + id_ + path; }

  pid_t driver_ = 0;
  int output_ = -1;  // the driver's
  std::string address_, id_;
};

}  // namespace qwb::serve
