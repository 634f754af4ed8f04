#include "lib/report/svg.h"

#include "lib/base/error.h"
#include "lib/report/clean_text.h"
#include "lib/report/gnuplot.h"

namespace qwb::report {
namespace {

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

// Removes every `begin`...`end` with what is between.
void cut_all(std::string& text, const std::string& begin, const std::string& end) {
  for (size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at)) {
    const size_t stop = text.find(end, at);
    if (stop == std::string::npos) return;
    text.erase(at, stop + end.size() - at);
  }
}

constexpr const char* kPictureStyle =
    "<style>svg{color:#1b1b1b;background:#fff}"
    "@media (prefers-color-scheme:dark){svg{color:#ececec;background:#16181c}}</style>";

}  // namespace

std::string escaped_html(const std::string& text) {
  std::string out;
  for (const char c : clean_text(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string finished_svg(std::string svg, const std::string& title, const std::string& summary) {
  const size_t root = svg.find("<svg"), end = svg.find('>', root == std::string::npos ? 0 : root);
  if (root == std::string::npos || end == std::string::npos)
    throw Error(ErrorKind::failed, "gnuplot wrote something that is no SVG");
  cut_all(svg, "<title>", "</title>");
  cut_all(svg, "<desc>", "</desc>");  // names gnuplot's version
  // Black is what the reader's text colour is.
  for (const char* quote : {"\"", "'"}) {
    for (const char* name : {"stroke", "fill"}) {
      const std::string black = std::string(name) + "=" + quote + "black" + quote;
      replace_all(svg, black, std::string(name) + "=" + quote + "currentColor" + quote);
    }
  }
  replace_all(svg, " color=\"black\"", "");
  for (const char* black : {"rgb(  0,   0,   0)", "rgb(0,0,0)"})  // where a script names the colour
    replace_all(svg, black, "currentColor");
  replace_all(svg, "font-family=\"sans-serif\"",
              "font-family=\"system-ui, 'DejaVu Sans', sans-serif\"");
  const size_t start = svg.find("<svg"), close = svg.find('>', start);
  svg.insert(close + 1, "\n<title>" + escaped_html(title) + "</title><desc>" +
                            escaped_html(summary) + "</desc>\n" + kPictureStyle);
  return svg;
}

std::string inline_svg(const std::string& svg, const std::string& prefix) {
  std::string text = svg.substr(svg.find("<svg"));
  replace_all(text, kPictureStyle, "");
  replace_all(text, " id='", " id='" + prefix);
  replace_all(text, " id=\"", " id=\"" + prefix);
  replace_all(text, "'#gp", "'#" + prefix + "gp");
  replace_all(text, "url(#", "url(#" + prefix);
  text.replace(0, 4, "<svg role=\"img\"");
  return text;
}

}  // namespace qwb::report
