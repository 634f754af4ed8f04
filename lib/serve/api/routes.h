// Every route of the server, in one table.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "lib/serve/api/exchange.h"
#include "lib/serve/api/service.h"

namespace qwb::serve {

struct Route {
  std::string_view method;  // GET (HEAD is answered like it) or POST, whose body is JSON
  std::string_view path;    // one that ends in * stands for all that begin so
  // Answers, or throws ApiError or Error.
  void (*handle)(Service& service, const std::shared_ptr<Exchange>& exchange);
  bool needs_key = true;  // where keys are used
  bool quick = false;     // answers in microseconds, by the thread that serves connections
};

const std::vector<Route>& routes();

// What a path and a method lead to.
struct Routed {
  const Route* route = nullptr;                // null: nothing is there, or not for this method
  std::vector<std::string_view> allowed = {};  // methods of the path; empty: there is no such path
};
Routed find_route(std::string_view method, std::string_view path);

// Calls the route's handler and turns what it throws into an answer.
void handle(const Route& route, Service& service, const std::shared_ptr<Exchange>& exchange);

// The handlers.
void handle_health(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_models(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_model(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_chat(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_text(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_tokenize(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_detokenize(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_template(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_props(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_metrics(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_versions(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_compare(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_compare_stop(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_page(Service& service, const std::shared_ptr<Exchange>& exchange);
void handle_report(Service& service, const std::shared_ptr<Exchange>& exchange);

}  // namespace qwb::serve
