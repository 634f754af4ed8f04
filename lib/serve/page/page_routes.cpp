// GET /, GET /page/FILE and GET /report. The page loads nothing from elsewhere, and whatever a
// model writes can neither run as a script nor ask anything of anybody.
#include <algorithm>

#include "lib/serve/api/api_error.h"
#include "lib/serve/api/routes.h"
#include "lib/serve/page/page_files.h"

namespace qwb::serve {
namespace {

constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'";

// The report has styles, pictures and a script in itself. It runs as a page of no origin, from
// which nothing here can be asked.
constexpr const char* kReportPolicy =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts";

const PageFile& page_file(std::string_view path) {
  constexpr std::string_view kFolder = "/page/";
  const std::string_view name = path == "/" ? "index.html" : path.substr(kFolder.size());
  const auto& files = page_files();
  const auto found = std::find_if(files.begin(), files.end(),
                                  [&](const PageFile& file) { return file.name == name; });
  if (found == files.end())
    throw ApiError(404, "the page has no file of this name", {}, "no_such_route");
  return *found;
}

}  // namespace

void handle_page(Service& service, const std::shared_ptr<Exchange>& exchange) {
  if (!service.settings().page) throw ApiError(404, "the page is off (--no-page)");
  const PageFile& file = page_file(exchange->request().path);
  HttpAnswer answer{.type = std::string(file.type),
                    .body = std::string(file.content),
                    .headers = {{"ETag", std::string(file.etag)},
                                {"Content-Security-Policy", kPolicy},
                                {"Cross-Origin-Opener-Policy", "same-origin"}},
                    .cache = "no-cache"};
  if (exchange->request().if_none_match == file.etag) answer.status = 304;
  exchange->send(std::move(answer));
}

void handle_report(Service& service, const std::shared_ptr<Exchange>& exchange) {
  const std::string& report = service.settings().report;
  if (report.empty())
    throw ApiError(404, "there is no report: start the server with --report FILE");
  exchange->send({.type = "text/html; charset=utf-8",
                  .body = report,
                  .headers = {{"Content-Security-Policy", kReportPolicy},
                              {"Cross-Origin-Opener-Policy", "same-origin"}}});
}

}  // namespace qwb::serve
