// A page as roff. Its section "Options" was made from the declaration just before.
#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "tools/manual/manual.h"

namespace qwb {
namespace {

bool begins(const std::string& text, const std::string& with) {
  return text.rfind(with, 0) == 0;
}

// Text as it is: no escape, no request. Hyphens that belong to commands are minus signs, so that
// they can be searched and copied.
std::string literal(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else if (c == '\'')
      out += "\\(aq";
    else if (c == '^')
      out += "\\(ha";
    else if (c == '~')
      out += "\\(ti";
    else if (c == '`')
      out += "\\(ga";
    else
      out += c;
  }
  return out;
}

// `code` and **bold** in bold, [text](target) as text.
std::string inline_roff(const std::string& text) {
  std::string out;
  bool flag = false;  // in a word that begins with "-"
  for (size_t i = 0; i < text.size();) {
    const size_t code = text[i] == '`' ? text.find('`', i + 1) : std::string::npos;
    const size_t bold = text.compare(i, 2, "**") == 0 ? text.find("**", i + 2) : std::string::npos;
    const size_t link = text[i] == '[' ? text.find("](", i) : std::string::npos;
    const size_t link_end = link == std::string::npos ? link : text.find(')', link);
    if (code != std::string::npos) {
      out += "\\fB" + literal(text.substr(i + 1, code - i - 1)) + "\\fR";
      i = code + 1;
    } else if (bold != std::string::npos) {
      out += "\\fB" + literal(text.substr(i + 2, bold - i - 2)) + "\\fR";
      i = bold + 2;
    } else if (link_end != std::string::npos && text.find(']', i) == link) {
      out += inline_roff(text.substr(i + 1, link - i - 1));
      i = link_end + 1;
    } else {
      if (text[i] == '-' && (i == 0 || text[i - 1] == ' ' || text[i - 1] == '(')) flag = true;
      if (text[i] == ' ') flag = false;
      out += text[i] == '-' && !flag ? std::string("-") : literal(text.substr(i, 1));
      if (text.compare(i, 2, "][") == 0) out += "\\:";  // a long word may be broken here
      ++i;
    }
  }
  return out;
}

// A line of text; one that begins like a request does not become one.
std::string text_line(const std::string& line) {
  const bool request = begins(line, ".") || begins(line, "'");
  return (request ? "\\&" : "") + inline_roff(line) + "\n";
}

class RoffWriter {
 public:
  std::string write(const std::string& page) {
    std::istringstream lines(page);
    for (std::string line; std::getline(lines, line);) add(line);
    leave_block();
    return std::move(out_);
  }

 private:
  void add(const std::string& line) {
    if (begins(line, "    ") && !in_list_) return add_block(line.substr(4));
    if (line.empty()) return add_gap();
    leave_block();
    if (begins(line, "<!--") || begins(line, "# ") || begins(line, "![")) return;  // a picture
    if (begins(line, "## ")) return heading(".SH ", line.substr(3));
    if (begins(line, "### ")) return heading(".SS ", line.substr(4));
    if (begins(line, "  - ")) return add_below(line.substr(4));
    if (begins(line, "- ")) return add_item(line.substr(2));
    if (in_list_ && begins(line, "  ")) return add_text(line.substr(2));
    if (gap_) out_ += in_list_ ? ".PP\n" : section_start_ ? "" : ".PP\n";
    in_list_ = in_list_ && !gap_;
    add_text(line);
  }

  void heading(const std::string& macro, std::string title) {
    if (macro == ".SH ")
      std::transform(title.begin(), title.end(), title.begin(),
                     [](unsigned char c) { return std::toupper(c); });
    out_ += macro + (macro == ".SH " ? title : "\"" + inline_roff(title) + "\"") + "\n";
    in_list_ = gap_ = false;
    section_start_ = true;
  }

  void add_text(const std::string& line) {
    out_ += text_line(line);
    gap_ = section_start_ = false;
  }

  // "`--flag`: what it does": the flag stands out.
  void add_item(const std::string& item) {
    const size_t end = begins(item, "`") ? item.find("`: ") : std::string::npos;
    if (end != std::string::npos) {
      out_ += ".TP\n" + text_line(item.substr(0, end + 1)) + text_line(item.substr(end + 3));
    } else {
      out_ += ".IP \\(bu 2\n" + text_line(item);
    }
    in_list_ = true;
    gap_ = section_start_ = false;
  }

  void add_below(const std::string& line) {
    out_ += ".br\n" + text_line(line);
    gap_ = false;
  }

  void add_block(const std::string& line) {
    if (!in_block_)
      out_ += std::string(section_start_ ? "" : ".PP\n") + ".RS 4\n.nf\n";
    else if (gap_)
      out_ += "\n";
    in_block_ = true;
    gap_ = section_start_ = false;
    out_ += std::string(begins(line, ".") || begins(line, "'") ? "\\&" : "") + literal(line) + "\n";
  }

  void add_gap() { gap_ = true; }

  void leave_block() {
    if (!in_block_) return;
    out_ += ".fi\n.RE\n";
    in_block_ = false;
  }

  std::string out_;
  bool in_list_ = false, in_block_ = false, gap_ = false, section_start_ = true;
};

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::toupper(c); });
  return text;
}

}  // namespace

std::string manual_roff(const std::string& page, const Declaration& declaration,
                        const ManualHead& head) {
  std::string summary = declaration.summary;
  while (!summary.empty() && summary.back() == '.') summary.pop_back();
  const std::string title =
      fmt::format(".TH {} 1 \"{}\" \"qwb {}\" \"User Commands\"\n",
                  literal(upper(declaration.name)), head.date, literal(head.version));
  const std::string name = fmt::format(".ad l\n.nh\n.SH NAME\n{} \\- {}\n",
                                       literal(declaration.name), inline_roff(summary));
  return title + name + RoffWriter().write(page_with_options(page, declaration));
}

}  // namespace qwb
