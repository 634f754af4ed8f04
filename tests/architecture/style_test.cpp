// Style that a machine can check and the formatter does not: no line is wider than 100 columns, and
// comments that are drawings (columns of text) were not broken by rewrapping. The rules are tried
// on bad and good texts first, so that a pass on the tree means something.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace qwb {
namespace {

namespace fs = std::filesystem;

constexpr size_t kStyleColumns = 100;
// A line that a wrapping formatter filled: the next word did not fit.
constexpr size_t kFullLine = 85;

// Characters, not bytes.
size_t columns_of(const std::string& line) {
  return static_cast<size_t>(
      std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// Which lines hold a piece of a raw string: these cannot be broken. Knows no other strings, in
// which R"( is not expected.
std::vector<bool> raw_lines(const std::vector<std::string>& lines) {
  std::vector<bool> raw(lines.size(), false);
  std::string end;  // of the raw string that is open; empty: none
  for (size_t i = 0; i < lines.size(); ++i) {
    size_t at = 0;
    while (at < lines[i].size() || !end.empty()) {
      raw[i] = raw[i] || !end.empty();
      if (end.empty()) {
        at = lines[i].find("R\"", at);
        const size_t open = at == std::string::npos ? at : lines[i].find('(', at);
        if (open == std::string::npos) break;
        end = ")" + lines[i].substr(at + 2, open - at - 2) + "\"";
        at = open;
      } else {
        at = lines[i].find(end, at);
        if (at == std::string::npos) break;
        at += end.size();
        end.clear();
      }
    }
  }
  return raw;
}

// A line that is a comment and nothing else.
struct Comment {
  bool is = false;
  size_t slashes = 0;  // the column of "//"
  size_t indent = 0;   // of the text behind them
  int words = 0;
  bool gap = false;  // words two blanks or more apart: columns
};

Comment comment_of(const std::string& line) {
  Comment comment;
  comment.slashes = std::min(line.find_first_not_of(' '), line.size());
  if (line.compare(comment.slashes, 2, "//") != 0) return comment;
  comment.is = true;
  const std::string text = line.substr(comment.slashes + 2);
  comment.indent = std::min(text.find_first_not_of(' '), text.size());
  for (size_t at = comment.indent; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const size_t next = std::min(text.find_first_not_of(' ', end), text.size());
    comment.gap = comment.gap || (next < text.size() && next - end > 1);
    ++comment.words;
    at = next;
  }
  return comment;
}

// One or two words on a line of their own that rewrapping pushed out of a drawing's line: the line
// before is full and has columns, the line behind is deeper.
bool is_orphan(const std::string& before, const std::string& line, const std::string& behind) {
  const Comment a = comment_of(before), b = comment_of(line), c = comment_of(behind);
  if (!a.is || !b.is || !c.is || a.slashes != b.slashes || b.slashes != c.slashes) return false;
  const bool pushed_out = a.gap && b.indent <= a.indent && columns_of(before) >= kFullLine;
  return pushed_out && !b.gap && b.words >= 1 && b.words <= 2 && c.words > 0 &&
         c.indent > b.indent + 1;
}

std::vector<std::string> style_faults(const std::string& name, const std::string& text) {
  std::vector<std::string> faults;
  const std::vector<std::string> lines = lines_of(text);
  const std::vector<bool> raw = raw_lines(lines);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (raw[i]) continue;
    const std::string place = name + ":" + std::to_string(i + 1) + ": ";
    if (columns_of(lines[i]) > kStyleColumns)
      faults.push_back(place + std::to_string(columns_of(lines[i])) + " columns");
    if (i > 0 && i + 1 < lines.size() && is_orphan(lines[i - 1], lines[i], lines[i + 1]))
      faults.push_back(place + "words of a drawing on a line of their own");
  }
  return faults;
}

bool is_styled(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".cpp" || extension == ".h" || extension == ".cu" || extension == ".cuh";
}

TEST(Style, TheTreeObeys) {
  const fs::path root = QWB_SOURCE_DIR;
  size_t files = 0;
  std::string faults;
  for (const char* folder : {"lib", "formats", "cache", "tools", "tests"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file() || !is_styled(entry.path())) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(file), {}};
      for (const std::string& fault : style_faults(fs::relative(entry.path(), root), text))
        faults += fault + "\n";
      ++files;
    }
  }
  EXPECT_EQ(faults, "");
  EXPECT_GT(files, 500u);
}

TEST(Style, WideLinesAreSeenWhateverTheyHold) {
  const std::string wide(101, 'x'), narrow(97, 'x');
  EXPECT_EQ(style_faults("a.h", "// " + narrow + "\nint a;\n").size(), 0u);
  EXPECT_EQ(style_faults("a.h", "int a;\n// " + wide + "\n"),
            std::vector<std::string>{"a.h:2: 104 columns"});
  EXPECT_EQ(style_faults("a.h", "int a;  // " + wide).size(), 1u);
  EXPECT_EQ(style_faults("a.h", "int " + wide + ";\n").size(), 1u);
  std::string accents;
  for (int i = 0; i < 97; ++i) accents += "é";
  EXPECT_EQ(style_faults("a.h", "// " + accents + "\n").size(), 0u);
}

TEST(Style, RawStringsMayBeWideAndNothingBehindThem) {
  const std::string wide(101, 'x');
  EXPECT_EQ(style_faults("a.h", "f(R\"(" + wide + ")\");\n").size(), 0u);
  EXPECT_EQ(style_faults("a.h", "f(R\"q(a\n" + wide + "\n)\"\n" + wide + ")q\");\n").size(), 0u);
  EXPECT_EQ(style_faults("a.h", "f(R\"(a)\", R\"(b\nc)\");\n// " + wide + "\n"),
            std::vector<std::string>{"a.h:3: 104 columns"});
}

TEST(Style, OrphansOfDrawingsAreSeen) {
  const std::string row =
      "//   name      some text that was too long for its line and lost its last words, which an\n";
  EXPECT_EQ(style_faults("a.h", row + "//   orphan is\n//             before the rest\n"),
            std::vector<std::string>{"a.h:2: words of a drawing on a line of their own"});
  EXPECT_EQ(style_faults("a.h", row + "//             goes on here\n").size(), 0u);
  EXPECT_EQ(style_faults("a.h", row + "//   other     text\n//             more\n").size(), 0u);
  EXPECT_EQ(style_faults("a.h", row + "// That was it.\n//   name      text\n").size(), 0u);
  EXPECT_EQ(style_faults("a.h", "// A plain paragraph ends in\n// a word.\n//   name  x\n").size(),
            0u);
}

}  // namespace
}  // namespace qwb
