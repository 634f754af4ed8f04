// Adds what gnuplot's SVG lacks: a title, colours that follow light and dark, ids of its own.
#pragma once

#include <string>

namespace qwb::report {

// A file that stands alone. Text of plots is escaped by gnuplot already; title and summary are
// escaped here.
std::string finished_svg(std::string svg, const std::string& title, const std::string& summary);

// "&" "<" ">" and quotes for HTML and XML.
std::string escaped_html(const std::string& text);

}  // namespace qwb::report
