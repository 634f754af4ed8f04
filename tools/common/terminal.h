// What the streams of this process are connected to.
#pragma once

namespace qwb {

enum class ColorMode { automatic, always, never };

bool is_terminal(int fd);
// automatic: on a terminal, unless NO_COLOR is set to anything (no-color.org) or TERM is "dumb". A
// flag is stronger than NO_COLOR.
bool use_color(ColorMode mode, int fd);
// Columns of the terminal behind fd; 80 if it does not tell.
int terminal_width(int fd);

}  // namespace qwb
