// Progress of libraries: they report it here, and a tool decides what the user sees.
#pragma once

#include <cstdint>
#include <string>

namespace qwb {

class Progress {
 public:
  virtual ~Progress() = default;
  // A task of `total` units (0 = unknown) begins; tasks do not nest.
  virtual void begin(const std::string& /*task*/, int64_t /*total*/) {}
  // `units` more are done; `detail` is shown beside the bar.
  virtual void advance(int64_t /*units*/, const std::string& /*detail*/) {}
  virtual void end() {}
  // Something the user should know, once (a warning or a decision taken).
  virtual void note(const std::string& /*text*/) {}
};

// A Progress that says nothing.
Progress& silent_progress();

}  // namespace qwb
