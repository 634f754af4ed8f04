// Any bytes as the body of a request, and as its host and path: refused with an ApiError, or a
// request within its bounds.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lib/serve/api/api_error.h"
#include "lib/serve/api/completion_request.h"
#include "lib/serve/api/request_json.h"
#include "lib/serve/http/gate.h"

namespace {

void check(const qwb::serve::CompletionRequest& request) {
  using namespace qwb::serve;
  qwb::check_sampling(request.sampling);
  if (request.choices < 1 || request.choices > kMostAnswers) std::abort();
  if (request.max_tokens.value_or(0) < 0) std::abort();
  if (request.stop.size() > kMostStops || request.top.value_or(0) > kMostTop) std::abort();
  if (request.chat && !request.messages.is_array()) std::abort();
}

template <class Read>
void attempt(const Read& read) {
  try {
    read();
  } catch (const qwb::serve::ApiError& error) {
    if (error.status() != 400 ||
        error.json().dump(-1, ' ', false, qwb::Json::error_handler_t::replace).empty())
      std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto host = qwb::serve::host_name(text); host && host->empty()) std::abort();
  if (const auto path = qwb::serve::decoded_path(text); path && path->front() != '/') std::abort();
  attempt([&] {
    const qwb::Json json = qwb::serve::parse_request(text);
    static_cast<void>(qwb::serve::requested_model(json));
    attempt([&] { check(qwb::serve::read_chat_request(json, {})); });
    attempt([&] { check(qwb::serve::read_text_request(json, {})); });
  });
  return 0;
}
