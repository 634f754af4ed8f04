#include "tests/serve/browser_helper.h"

#include <curl/curl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "lib/base/bytes.h"

namespace qwb::serve {
namespace {

constexpr long kSeconds = 60;  // that a command may take

std::optional<Path> program(const std::string& name) {
  const char* const places = std::getenv("PATH");
  std::istringstream list(places != nullptr ? places : "");
  for (std::string folder; std::getline(list, folder, ':');) {
    const Path file = Path(folder) / name;
    if (::access(file.c_str(), X_OK) == 0) return file;
  }
  return std::nullopt;
}

size_t take_bytes(char* bytes, size_t size, size_t count, void* to) {
  static_cast<std::string*>(to)->append(bytes, size * count);
  return size * count;
}

std::string from_base64(const std::string& text) {
  std::string bytes;
  unsigned bits = 0;
  int count = 0;
  for (const char c : text) {
    const std::string_view letters =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t value = letters.find(c);
    if (value == std::string_view::npos) break;
    bits = bits << 6 | static_cast<unsigned>(value);
    if ((count += 6) < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 255);
  }
  return bytes;
}

// What the program writes, up to the end of the line that has `words` in it; empty if that does not
// come.
std::string read_line_with(int from, const std::string& words) {
  std::string text;
  for (size_t at = std::string::npos; at == std::string::npos;) {
    pollfd ready{from, POLLIN, 0};
    char bytes[256];
    const ssize_t count = ::poll(&ready, 1, 20000) > 0 ? ::read(from, bytes, sizeof bytes) : 0;
    if (count <= 0) return {};
    text.append(bytes, static_cast<size_t>(count));
    at = text.find(words);
    if (at != std::string::npos) at = text.find('\n', at);
  }
  return text;
}

}  // namespace

std::unique_ptr<Browser> Browser::start(const Path& downloads, std::string& reason) {
  const auto driver = program("chromedriver"), chromium = program("chromium");
  if (!driver || !chromium) {
    reason = "chromium and chromedriver (Debian: chromium chromium-driver) are not installed";
    return nullptr;
  }
  std::unique_ptr<Browser> browser(new Browser);
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("no pipe");
  browser->driver_ = ::fork();
  if (browser->driver_ == 0) {
    ::setpgid(0, 0);
    ::dup2(ends[1], 1);
    ::dup2(ends[1], 2);
    ::close(ends[0]);
    ::execl(driver->c_str(), "chromedriver", "--port=0", nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  browser->output_ = ends[0];
  const std::string ready = "started successfully on port ";
  const std::string told = read_line_with(ends[0], ready);
  if (told.empty()) {
    reason = "chromedriver does not start";
    return nullptr;
  }
  const size_t port = told.rfind(ready) + ready.size();
  browser->address_ = "http://127.0.0.1:" + std::to_string(std::stoi(told.substr(port)));
  const Json options = {
      {"binary", chromium->string()},
      {"args",
       {"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--window-size=1300,1000"}},
      {"prefs",
       {{"download.default_directory", downloads.string()},
        {"profile.default_content_setting_values.automatic_downloads", 1}}}};  // without asking
  const Json body = {{"capabilities", {{"alwaysMatch", {{"goog:chromeOptions", options}}}}}};
  try {
    browser->id_ = browser->call("POST", "/session", &body)["sessionId"];
  } catch (const std::exception& error) {
    reason = std::string("chromium does not start: ") + error.what();
    return nullptr;
  }
  return browser;
}

Browser::~Browser() {
  try {
    if (!id_.empty()) call("DELETE", session(""));
  } catch (const std::exception&) {
    id_.clear();  // its processes are ended below
  }
  if (output_ >= 0) ::close(output_);
  if (driver_ <= 0) return;
  ::kill(-driver_, SIGTERM);
  ::waitpid(driver_, nullptr, 0);
}

Json Browser::call(const std::string& method, const std::string& path, const Json* body) {
  std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  const std::string url = address_ + path, text = body != nullptr ? body->dump() : "";
  std::string answer;
  curl_slist* const headers = curl_slist_append(nullptr, "Content-Type: application/json");
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_CUSTOMREQUEST, method.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl.get(), CURLOPT_NOPROXY, "*");
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, kSeconds);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, take_bytes);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer);
  if (body != nullptr) curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, text.c_str());
  const CURLcode code = curl_easy_perform(curl.get());
  curl_slist_free_all(headers);
  if (code != CURLE_OK) throw std::runtime_error(curl_easy_strerror(code));
  const Json value = Json::parse(answer).at("value");
  if (value.is_object() && value.contains("error"))
    throw std::runtime_error(value.at("message").get<std::string>());
  return value;
}

void Browser::open(const std::string& url) {
  const Json body = {{"url", url}};
  call("POST", session("/url"), &body);
}

Json Browser::run(const std::string& text, const Json& arguments) {
  const Json body = {{"script", text}, {"args", arguments}};
  return call("POST", session("/execute/sync"), &body);
}

Json Browser::run_later(const std::string& text, const Json& arguments) {
  const Json body = {{"script", text}, {"args", arguments}};
  return call("POST", session("/execute/async"), &body);
}

bool Browser::wait(const std::string& body, double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end) {
    if (run(body) == true) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

void Browser::press(const std::vector<std::string>& keys, const std::string& held) {
  Json actions = Json::array();
  const auto add = [&](const char* type, const std::string& key) {
    actions.push_back({{"type", type}, {"value", key}});
  };
  if (!held.empty()) add("keyDown", held);
  for (const std::string& key : keys) {
    add("keyDown", key);
    add("keyUp", key);
  }
  if (!held.empty()) add("keyUp", held);
  const Json body = {
      {"actions", Json::array({{{"type", "key"}, {"id", "keyboard"}, {"actions", actions}}})}};
  call("POST", session("/actions"), &body);
}

void Browser::type(const std::string& selector, const std::string& text) {
  const Json find = {{"using", "css selector"}, {"value", selector}};
  const Json element = call("POST", session("/element"), &find);
  const Json body = {{"text", text}};
  call("POST", session("/element/" + element.begin()->get<std::string>() + "/value"), &body);
}

Json Browser::command(const std::string& name, const Json& parameters) {
  const Json body = {{"cmd", name}, {"params", parameters}};
  return call("POST", session("/goog/cdp/execute"), &body);
}

void Browser::width(int pixels) {
  command("Emulation.setDeviceMetricsOverride",
          {{"width", pixels}, {"height", 900}, {"deviceScaleFactor", 1}, {"mobile", false}});
}

void Browser::dark(bool on) {
  const Json feature = {{"name", "prefers-color-scheme"}, {"value", on ? "dark" : "light"}};
  command("Emulation.setEmulatedMedia", {{"features", Json::array({feature})}});
}

void Browser::picture(const Path& file) {
  const std::string bytes = from_base64(call("GET", session("/screenshot")).get<std::string>());
  write_file_atomically(file, as_bytes(bytes));
}

}  // namespace qwb::serve
