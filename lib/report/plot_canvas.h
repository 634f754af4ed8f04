// The sheet that scripts are written on: pixels from the top left corner, colours, texts, axes.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace qwb {

// Colour and shape of a version; of the palette of Okabe and Ito (jfly.uni-koeln.de/color), which
// people with any kind of colour blindness can tell apart. Its black and yellow are left out: they
// vanish on dark and on light paper. 42 versions differ in colour or shape.
std::string style_color(size_t style);
int style_point(size_t style, bool filled);  // gnuplot's pointtype

inline constexpr const char* kGrey = "#808080";  // readable on white and on black

double text_width(const std::string& text, int font);  // pixels, rather too many
// Lines of at most `width` pixels, at most `most` of them; longer words and text that does not fit
// end in "…".
std::vector<std::string> wrapped(const std::string& text, double width, int font, size_t most);
std::string fitted(const std::string& text, double width, int font);

struct Axis {
  double low = 0, high = 1;
  bool log = false;
  std::vector<double> ticks;
  // 0 at low, 1 at high
  double place(double value) const;
};
// A linear axis that holds both values and ends at ticks or a little beyond the values.
Axis linear_axis(double low, double high, int ticks, bool from_ticks);
Axis log_axis(double low, double high);

class Canvas {
 public:
  // Title lines above, room for `key_rows` rows of a key and for the note's lines below.
  Canvas(const std::string& title, const std::string& note, bool captioned);

  // The plotting area: margins inside of the captions, and its height. Call once, first.
  void area(double left, double right, double height, int key_rows);
  void x_axis(const Axis& axis, const std::string& title, bool grid);
  void y_axis(const Axis& axis, const std::string& title);  // with grid

  double left() const { return left_; }
  double right() const { return right_; }
  double top() const { return top_; }
  double bottom() const { return bottom_; }
  double x(double value) const { return left_ + x_.place(value) * (right_ - left_); }
  double y(double value) const { return bottom_ - y_.place(value) * (bottom_ - top_); }

  enum class Anchor { left, center, right };
  void text(double x, double y, const std::string& text, Anchor anchor,
            const std::string& color = "black", int font = 0, bool upright = false);
  void line(double x1, double y1, double x2, double y2, const std::string& color, double width,
            bool dashed = false);
  void polyline(const std::vector<std::pair<double, double>>& points, const std::string& color,
                double width);
  void mark(double x, double y, int point, double size, const std::string& color);
  void box(double x1, double y1, double x2, double y2, const std::string& color, double opacity,
           bool outline);

  struct KeyEntry {
    std::string label, color;
    int point = 0;  // 0: none
    bool dashed = false, filled_box = false;
  };
  static int key_rows(const std::vector<KeyEntry>& entries);
  void key(const std::vector<KeyEntry>& entries);

  std::string script() const;
  int height() const { return static_cast<int>(height_); }

 private:
  std::string screen(double x, double y) const;
  void grid_line(double x1, double y1, double x2, double y2);
  static int key_columns(const std::vector<KeyEntry>& entries);

  std::vector<std::string> title_, note_;
  double left_ = 0, right_ = 0, top_ = 0, bottom_ = 0, height_ = 0;
  double key_top_ = 0;
  Axis x_, y_;
  std::string body_;
  std::string data_, curves_;  // of polylines
  int polylines_ = 0;
};

}  // namespace qwb
