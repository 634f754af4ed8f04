// Lines edited by libedit (BSD licence; readline's would bind every binary).
#include "tools/chat/line_reader.h"

#ifdef QWB_LIBEDIT

#include <histedit.h>
#include <locale.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cwchar>
#include <string_view>

#include "lib/base/utf8.h"

namespace qwb {
namespace {

constexpr int kKeptLines = 1000;

// libedit asks the locale what the bytes mean. They are UTF-8, whatever the user's locale says. For
// this thread only.
class Utf8Characters {
 public:
  Utf8Characters() : locale_(::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)) {
    if (locale_ != nullptr) before_ = ::uselocale(locale_);
  }
  ~Utf8Characters() {
    if (locale_ == nullptr) return;
    ::uselocale(before_);
    ::freelocale(locale_);
  }
  Utf8Characters(const Utf8Characters&) = delete;
  Utf8Characters& operator=(const Utf8Characters&) = delete;

 private:
  locale_t locale_ = nullptr;
  locale_t before_ = nullptr;
};

// Between two of these libedit expects what takes no column. It wants a character behind them.
constexpr char kNoColumn = '\1';

// Bold but for its last character, a blank.
std::string bold_prompt(const std::string& prompt) {
  const auto unseen = [](const char* style) { return kNoColumn + std::string(style) + kNoColumn; };
  return unseen("\x1b[1m") + prompt.substr(0, prompt.size() - 1) + unseen("\x1b[0m") +
         prompt.back();
}

class EditReader : public LineReader {
 public:
  EditReader(TerminalInput& input, Tool& tool);
  ~EditReader() override;
  EditReader(const EditReader&) = delete;
  EditReader& operator=(const EditReader&) = delete;

  TypedLine read(const std::string& prompt, const std::string& begun) override;
  bool edits() const override { return true; }
  void remember(const std::string& text) override;

 private:
  static EditReader& of(EditLine* editor);
  static char* prompt_of(EditLine* editor) { return of(editor).prompt_.data(); }
  static int next_character(EditLine* editor, wchar_t* character);
  static unsigned char take_paste(EditLine* editor, int key);
  TypedLine line_of(const char* text, int count);

  TerminalInput& input_;
  Tool& tool_;
  Utf8Characters characters_;
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
  HistEvent event_{};
  std::string prompt_;
  TerminalInput::Got got_ = TerminalInput::Got::byte;
  bool pasted_ = false;
};

EditReader::EditReader(TerminalInput& input, Tool& tool) : input_(input), tool_(tool) {
  editor_ = ::el_init("qwb-chat", stdin, stdout, stderr);
  history_ = ::history_init();
  ::history(history_, &event_, H_SETSIZE, kKeptLines);
  ::history(history_, &event_, H_SETUNIQUE, 1);
  ::el_set(editor_, EL_CLIENTDATA, this);
  ::el_set(editor_, EL_PROMPT_ESC, &EditReader::prompt_of, kNoColumn);
  ::el_set(editor_, EL_HIST, &::history, history_);
  ::el_set(editor_, EL_EDITOR, "emacs");
  ::el_set(editor_, EL_SIGNAL, 0);  // ours stay in force
  ::el_set(editor_, EL_GETCFN, &EditReader::next_character);
  ::el_set(editor_, EL_ADDFN, "qwb-paste", "Take a pasted text", &EditReader::take_paste);
  ::el_set(editor_, EL_BIND, "\\e[200~", "qwb-paste", nullptr);
  ::el_set(editor_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  ::el_source(editor_, nullptr);  // what the user's ~/.editrc says
}

EditReader::~EditReader() {
  ::el_end(editor_);
  ::history_end(history_);
}

EditReader& EditReader::of(EditLine* editor) {
  void* reader = nullptr;
  ::el_get(editor, EL_CLIENTDATA, &reader);
  return *static_cast<EditReader*>(reader);
}

void EditReader::remember(const std::string& text) {
  ::history(history_, &event_, H_ENTER, text.c_str());
}

// One character from the bytes; libedit's own would not notice a Ctrl-C between two reads.
int EditReader::next_character(EditLine* editor, wchar_t* character) {
  EditReader& self = of(editor);
  std::string bytes;
  int bad = 0;
  do {
    char byte = 0;
    self.got_ = self.input_.next(byte);
    if (self.got_ == TerminalInput::Got::end) return 0;
    if (self.got_ == TerminalInput::Got::interrupted) {
      errno = EINTR;
      return -1;
    }
    bytes += byte;
  } while (utf8_sequence(bytes, 0, bad) < 0);
  std::mbstate_t state{};
  if (std::mbrtowc(character, bytes.data(), bytes.size(), &state) > bytes.size())
    *character = L'\ufffd';
  return 1;
}

// Line ends inside of a paste belong to the line: only the return key sends it.
unsigned char EditReader::take_paste(EditLine* editor, int /*key*/) {
  EditReader& self = of(editor);
  std::string text;
  self.got_ = read_paste(self.input_, text);
  if (self.got_ != TerminalInput::Got::byte) return CC_EOF;
  std::erase(text, '\0');
  self.pasted_ = self.pasted_ || text.find('\n') != std::string::npos;
  return ::el_insertstr(editor, text.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
}

TypedLine EditReader::read(const std::string& prompt, const std::string& begun) {
  prompt_ = tool_.color_stdout() ? bold_prompt(prompt) : prompt;
  pasted_ = false;
  got_ = TerminalInput::Got::byte;
  if (!begun.empty()) input_.push(kPasteBegin + begun + kPasteEnd);
  ::el_resize(editor_);
  // libedit itself would print the prompt first; a Ctrl-D that came between would be lost.
  ::el_set(editor_, EL_PREP_TERM, 1);
  tool_.print(paste_marks(true));
  int count = 0;
  errno = 0;
  const char* text = ::el_gets(editor_, &count);
  TypedLine line = line_of(text, count);
  tool_.print(paste_marks(false) + (line.kind == TypedLine::Kind::text ? "" : "\n"));
  return line;
}

TypedLine EditReader::line_of(const char* text, int count) {
  TypedLine line;
  line.pasted = pasted_;
  if (got_ == TerminalInput::Got::interrupted) {
    const LineInfo* so_far = ::el_line(editor_);
    line.kind = TypedLine::Kind::interrupted;
    line.text.assign(so_far->buffer, so_far->lastchar);
    ::el_reset(editor_);
    return line;
  }
  if (text == nullptr || count <= 0) {
    line.kind = TypedLine::Kind::end;
    return line;
  }
  line.text.assign(text, static_cast<size_t>(count));
  if (line.text.ends_with('\n')) line.text.pop_back();
  return line;
}

}  // namespace

std::unique_ptr<LineReader> make_line_reader(TerminalInput& input, Tool& tool) {
  return std::make_unique<EditReader>(input, tool);
}

}  // namespace qwb

#else

namespace qwb {

std::unique_ptr<LineReader> make_line_reader(TerminalInput& input, Tool& tool) {
  return make_plain_reader(input, tool);
}

}  // namespace qwb

#endif
