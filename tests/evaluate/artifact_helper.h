// A quantized artifact of a demo model, made on the spot.
#pragma once

#include <string>

#include "lib/base/file.h"
#include "lib/quantize/method.h"

namespace qwb {
struct OpenModel;
class Model;
struct CalibrationSet;
}  // namespace qwb

namespace qwb::testing {

// A fresh folder for this process, removed with the object.
class Scratch {
 public:
  explicit Scratch(const std::string& name);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const Path& path() const { return path_; }

 private:
  Path path_;
};

// recipes/demo/NAME
Path demo(const std::string& name);

// Quantizes `model` by a method that needs no calibration into `target`. qwb.json names `source` as
// the path of the unquantized model ("": none).
void make_artifact(const Path& model, const std::string& method, const Path& target,
                   const std::string& source);
void make_artifact(const Path& model, const Method& method, const Path& target,
                   const std::string& source);

// The same of an open model, on its threads; windows are taken by methods that calibrate. Returns
// how many modules were quantized.
size_t write_quantized(const OpenModel& open, const Model& model, const Method& method,
                       const Json& given, const CalibrationSet* windows, const Path& target,
                       const Json& origin = Json::object());

// Of the thousandth byte from the end; a file of the cache is made writable for it.
void flip_a_bit(const Path& file);

}  // namespace qwb::testing
