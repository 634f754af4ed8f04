#include "lib/hub/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <list>
#include <mutex>
#include <utility>
#include <vector>

#include "lib/base/error.h"

namespace qwb::hub {
namespace {

// Bytes that curl reads from a socket at once. More does not make a 10 Gbit/s loopback faster;
// every connection has one.
constexpr long kReceiveBuffer = 256 << 10;
constexpr size_t kMostFields = 500;
// A transfer slower than this many bytes a second over the stall time is as good as dead.
constexpr double kSlowest = 100;

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  return begin == std::string::npos
             ? ""
             : text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

HttpEnd::Kind kind_of(CURLcode code) {
  switch (code) {
    case CURLE_OK:
      return HttpEnd::Kind::complete;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:  // the only timeout set is that of the connection
      return HttpEnd::Kind::unreachable;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      return HttpEnd::Kind::untrusted;
    default:
      return HttpEnd::Kind::cut;
  }
}

}  // namespace

struct Http::Exchange {
  CURL* easy = nullptr;
  curl_slist* fields = nullptr;
  HttpHandler* handler = nullptr;
  HttpHead head;
  bool stopped = false;
  std::exception_ptr thrown;
  double window_began = 0;  // of stall detection
  int64_t window_bytes = 0;
  char reason[CURL_ERROR_SIZE] = {};

  Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() {
    if (easy != nullptr) curl_easy_cleanup(easy);
    curl_slist_free_all(fields);
  }

  // Exceptions must not cross curl's C code.
  template <typename Action>
  bool guarded(const Action& action) {
    try {
      if (action()) return true;
      stopped = true;
    } catch (...) {
      thrown = std::current_exception();
    }
    return false;
  }

  bool header_line(const std::string& line) {
    if (line.starts_with("HTTP/")) {
      head = {};
      const size_t space = line.find(' ');
      head.status = space == std::string::npos ? 0 : std::atoi(line.c_str() + space);
      return true;
    }
    if (trimmed(line).empty()) {
      if (head.status < 200)
        return true;  // 100 Continue, 103 Early Hints: the answer is still to come
      return guarded([this] { return handler->on_head(head); });
    }
    const size_t colon = line.find(':');
    if (colon == std::string::npos || head.fields.size() >= kMostFields) return true;
    std::string name = line.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    head.fields[name] = trimmed(line.substr(colon + 1));
    return true;
  }

  static size_t on_header(char* data, size_t one, size_t count, void* self) {
    auto& exchange = *static_cast<Exchange*>(self);
    exchange.window_bytes += static_cast<int64_t>(count);
    return exchange.header_line(std::string(data, one * count)) ? one * count : 0;
  }
  static size_t on_body(char* data, size_t one, size_t count, void* self) {
    auto& exchange = *static_cast<Exchange*>(self);
    exchange.window_bytes += static_cast<int64_t>(count);
    const Bytes bytes(reinterpret_cast<const std::byte*>(data), one * count);
    return exchange.guarded([&] { return exchange.handler->on_data(bytes); }) ? one * count : 0;
  }
};

struct Http::State {
  HubSettings settings;
  CURLM* multi = nullptr;
  std::list<Exchange> exchanges;
};

Http::Http(const HubSettings& settings, StopToken stop)
    : state_(std::make_unique<State>()), stop_(std::move(stop)) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  state_->settings = settings;
  state_->multi = curl_multi_init();
  if (state_->multi == nullptr) throw Error(ErrorKind::failed, "libcurl does not start");
}

Http::~Http() {
  while (!state_->exchanges.empty()) remove(state_->exchanges.front());
  curl_multi_cleanup(state_->multi);
}

namespace {

// Options common to all requests: certificates and timeouts.
void set_common_options(CURL* easy, const HubSettings& settings) {
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS,
                   1L);  // a proxy's answer is not the server's
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  curl_easy_setopt(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "qwb-pull");
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kReceiveBuffer);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(settings.connect_seconds * 1000));
  if (!settings.ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, settings.ca_file.c_str());
}

}  // namespace

void Http::start(const HttpRequest& request, HttpHandler& handler) {
  Exchange& exchange = state_->exchanges.emplace_back();
  CURL* easy = exchange.easy = curl_easy_init();
  if (easy == nullptr) throw Error(ErrorKind::failed, "libcurl does not start");
  exchange.handler = &handler;
  exchange.window_began = now_seconds();
  // Compressed bytes would neither have the announced length nor could be resumed.
  exchange.fields = curl_slist_append(nullptr, "Accept-Encoding: identity");
  if (!request.token.empty())
    exchange.fields =
        curl_slist_append(exchange.fields, ("Authorization: Bearer " + request.token).c_str());
  set_common_options(easy, state_->settings);
  curl_easy_setopt(easy, CURLOPT_URL, request.url.text().c_str());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, exchange.fields);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, exchange.reason);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Exchange::on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Exchange::on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &exchange);
  if (request.head_only) curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  if (!request.range.empty()) curl_easy_setopt(easy, CURLOPT_RANGE, request.range.c_str());
  curl_multi_add_handle(state_->multi, easy);
}

void Http::remove(Exchange& exchange) {
  curl_multi_remove_handle(state_->multi, exchange.easy);
  state_->exchanges.remove_if([&](const Exchange& other) { return &other == &exchange; });
}

void Http::cancel(const HttpHandler& handler) {
  for (Exchange& exchange : state_->exchanges) {
    if (exchange.handler != &handler) continue;
    remove(exchange);
    return;
  }
}

void Http::step(double seconds) {
  stop_.check();
  stop_stalled();
  // Short enough for Ctrl-C and stalls to be noticed. A request just started does not wait: its
  // timer is due.
  const int milliseconds = static_cast<int>(std::clamp(seconds, 0.0, 0.2) * 1000);
  curl_multi_poll(state_->multi, nullptr, 0, milliseconds, nullptr);
  int running = 0;
  curl_multi_perform(state_->multi, &running);
  finish_ended();
}

void Http::finish_ended() {
  int left = 0;
  while (CURLMsg* message = curl_multi_info_read(state_->multi, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    const auto found = std::find_if(
        state_->exchanges.begin(), state_->exchanges.end(),
        [&](const Exchange& exchange) { return exchange.easy == message->easy_handle; });
    if (found == state_->exchanges.end()) continue;
    HttpEnd end;
    end.kind = found->stopped ? HttpEnd::Kind::stopped : kind_of(code);
    if (end.kind != HttpEnd::Kind::complete && end.kind != HttpEnd::Kind::stopped)
      end.reason = found->reason[0] != '\0' ? found->reason : curl_easy_strerror(code);
    HttpHandler* handler = found->handler;
    const std::exception_ptr thrown = found->thrown;
    remove(*found);
    if (thrown) std::rethrow_exception(thrown);
    handler->on_end(end);
  }
}

void Http::stop_stalled() {
  const double now = now_seconds();
  const double patience = state_->settings.stall_seconds;
  std::vector<HttpHandler*> stalled;
  for (Exchange& exchange : state_->exchanges) {
    if (now - exchange.window_began < patience) continue;
    if (static_cast<double>(exchange.window_bytes) < kSlowest * patience)
      stalled.push_back(exchange.handler);
    exchange.window_began = now;
    exchange.window_bytes = 0;
  }
  for (HttpHandler* handler : stalled) {
    cancel(*handler);
    handler->on_end({HttpEnd::Kind::stalled,
                     "nothing came for " + std::to_string(std::lround(patience)) + " s"});
  }
}

void Http::wake() {
  curl_multi_wakeup(state_->multi);
}

}  // namespace qwb::hub
