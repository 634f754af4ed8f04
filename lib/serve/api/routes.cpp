#include "lib/serve/api/routes.h"

#include <exception>

#include "lib/serve/api/answer.h"
#include "lib/serve/api/api_error.h"

namespace qwb::serve {

const std::vector<Route>& routes() {
  static const std::vector<Route> table = {
      {"GET", "/health", handle_health, false, true},
      {"GET", "/v1/models", handle_models, true, true},
      {"GET", "/models", handle_models, true, true},
      {"GET", "/v1/models/*", handle_model, true, true},
      {"POST", "/v1/chat/completions", handle_chat},
      {"POST", "/chat/completions", handle_chat},
      {"POST", "/v1/completions", handle_text},
      {"POST", "/completions", handle_text},
      {"POST", "/tokenize", handle_tokenize},
      {"POST", "/detokenize", handle_detokenize},
      {"POST", "/apply-template", handle_template},
      {"GET", "/props", handle_props, true, true},
      {"GET", "/metrics", handle_metrics, true, true},
      {"GET", "/qwb/v1/versions", handle_versions},
      {"POST", "/qwb/v1/compare", handle_compare},
      {"POST", "/qwb/v1/compare/stop", handle_compare_stop},
      {"GET", "/", handle_page, false, true},
      {"GET", "/page/*", handle_page, false, true},
      {"GET", "/report", handle_report, true, true},
  };
  return table;
}

Routed find_route(std::string_view method, std::string_view path) {
  Routed found;
  for (const Route& route : routes()) {
    const bool several = route.path.ends_with('*');
    const std::string_view begin = route.path.substr(0, route.path.size() - (several ? 1 : 0));
    const bool here =
        several ? path.starts_with(begin) && path.size() > begin.size() : path == begin;
    if (!here) continue;
    found.allowed.push_back(route.method);
    const bool same = route.method == method || (route.method == "GET" && method == "HEAD");
    if (same && found.route == nullptr) found.route = &route;
  }
  return found;
}

void handle(const Route& route, Service& service, const std::shared_ptr<Exchange>& exchange) {
  try {
    route.handle(service, exchange);
  } catch (const ApiError& error) {
    send_error(*exchange, error);
  } catch (const std::exception& error) {
    const Error own = as_error(error);
    exchange->note([&](RequestRecord& record) { record.error = own.what(); });
    send_error(*exchange, api_error(own));
  }
}

}  // namespace qwb::serve
