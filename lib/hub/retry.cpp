#include "lib/hub/retry.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <ctime>

namespace qwb::hub {
namespace {

std::optional<double> number(const std::string& text) {
  if (text.empty() || text.size() > 9 ||
      !std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; }))
    return std::nullopt;
  return std::strtod(text.c_str(), nullptr);
}

// The value of ";name=" in a field like `"api";r=0;t=55`.
std::optional<double> parameter(const std::string& field, const std::string& name) {
  const size_t at = field.find(";" + name + "=");
  if (at == std::string::npos) return std::nullopt;
  const size_t begin = at + name.size() + 2;
  return number(field.substr(begin, field.find_first_not_of("0123456789", begin) - begin));
}

}  // namespace

bool is_passing(int status) {
  return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 ||
         status == 503 || status == 504;
}

std::optional<double> requested_wait(const HttpHead& head) {
  const std::string after = head.field("retry-after");
  if (const auto seconds = number(after)) return seconds;
  if (!after.empty()) {
    const time_t date = curl_getdate(after.c_str(), nullptr);
    if (date != -1) return std::max(0.0, std::difftime(date, std::time(nullptr)));
  }
  const std::string limit = head.field("ratelimit");
  if (head.status == 429 && parameter(limit, "r") == 0.0) return parameter(limit, "t");
  return std::nullopt;
}

double Backoff::wait(int failures, bool headway) {
  const double jitter = 0.5 + rng_.uniform();
  if (headway) return 0.1 * base_ * jitter;
  return base_ * std::pow(2.0, std::clamp(failures - 1, 0, 3)) * jitter;
}

}  // namespace qwb::hub
