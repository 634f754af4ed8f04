#include "lib/serve/http/log_line.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cmath>
#include <ctime>

#include "lib/serve/api/answer_json.h"

namespace qwb::serve {
namespace {

double milliseconds(double seconds) {
  return std::round(seconds * 1e5) / 100;
}

double first_token_ms(const RequestRecord& record) {
  return milliseconds(record.queue_seconds + record.prefill_seconds);
}

// A path is the caller's text: nothing of it may end a line or move a cursor.
std::string plain(const std::string& text) {
  std::string result = text.substr(0, 200);
  for (char& c : result) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f) c = '?';
  }
  return result;
}

Json log_json(const RequestLog& log) {
  const RequestRecord& r = log.record;
  Json json = {{"time", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
               {"id", log.id},
               {"peer", log.peer},
               {"method", plain(log.method)},
               {"path", plain(log.path)},
               {"status", log.status},
               {"total_ms", milliseconds(log.seconds)}};
  if (!r.model.empty()) json["model"] = r.model;
  if (r.generated) {
    json.update({{"prompt_tokens", r.prompt_tokens},
                 {"cached_tokens", r.cached_tokens},
                 {"generated_tokens", r.generated_tokens},
                 {"queue_ms", milliseconds(r.queue_seconds)},
                 {"ttft_ms", first_token_ms(r)},
                 {"finish", r.finish}});
  }
  if (!r.error.empty()) json["error"] = r.error;
  return json;
}

}  // namespace

std::string log_line(const RequestLog& log, bool json) {
  if (json) return json_line(log_json(log));
  const RequestRecord& r = log.record;
  std::string line =
      fmt::format("{} {} {} {}", log.peer, plain(log.method), plain(log.path), log.status);
  if (!r.model.empty()) line += " model=" + r.model;
  if (r.generated) {
    line += fmt::format(" prompt={} (cached {}) made={} {} queue={}ms ttft={}ms", r.prompt_tokens,
                        r.cached_tokens, r.generated_tokens, r.finish,
                        milliseconds(r.queue_seconds), first_token_ms(r));
  }
  line += fmt::format(" total={}ms id={}", milliseconds(log.seconds), log.id);
  if (!r.error.empty()) line += ": " + plain(r.error);
  return line;
}

}  // namespace qwb::serve
