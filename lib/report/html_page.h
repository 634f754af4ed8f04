// The fixed parts of a report's page: style and script, both inline. Nothing is fetched.
#pragma once

#include <string>

namespace qwb::report {

// From <!doctype to the opening <main>; `title` is escaped already.
std::string html_head(const std::string& title);
// From the script, without which everything is there but sorting, to </html>.
std::string html_foot();

}  // namespace qwb::report
