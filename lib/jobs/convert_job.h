// From a request to a model in another format: what will be exact, how large it gets, the work,
// what was lost.
#pragma once

#include <future>
#include <memory>
#include <optional>
#include <string>

#include "formats/model_writer.h"
#include "lib/base/context.h"
#include "lib/quantize/method.h"

namespace qwb {

class Conversion;

// Names and summaries of the formats that can be written, one a line, for --help.
std::string format_help();
// "qwb, gguf, gptq, ..."
std::string format_names();

struct ConvertRequest {
  Path model = {};          // a folder or file in any format (sources.h: of a name on the Hub)
  std::string format = {};  // one of format_names()
  // Of what is not quantized; nothing: as it is (of dequantized modules the model's).
  std::optional<DType> dtype = {};
  bool round_scales = false;    // scales may lose bits where the format has a narrower type
  int64_t max_shard_bytes = 0;  // of a weight file; 0: 5 GB
  // Quantizes anew, by this method, what the format cannot hold exactly; null: refuses it.
  const Method* requantize = nullptr;
  Json settings = {};      // of the method, as resolve_settings() gives them
  TensorTypes types = {};  // of matrices, in a format whose tensors have types
  bool replace = false;    // what is at the place to write to
  bool only_plan = false;  // write() does not follow: an artifact's bytes are not checked
};

// Everything known before the work begins; write() once.
class ConvertJob {
 public:
  // Opens the model and plans: no codes are read. Tells decisions through `context`. Throws
  // unsupported, naming modules, for what the format cannot hold; usage for a request that makes no
  // sense. Throws verification, at the latest when write() is about to end, if an artifact's bytes
  // are not what they were: a thread reads them all meanwhile.
  ConvertJob(ConvertRequest request, const Context& context);
  // Of a model that is open and known to be undamaged; request.model is not used.
  ConvertJob(OpenModel open, ConvertRequest request, const Context& context);

  ConvertJob(ConvertJob&&) noexcept;
  ~ConvertJob();

  int64_t tensor_bytes() const;
  // Writes the new folder (or file), which appears complete or not at all. Throws `failed` before
  // the work if the disk is too small, usage if something is there and not to be replaced.
  void write(const Path& place);

  // convert_report.h. Errors are known after write().
  Json report() const;
  // done: write() has run.
  void log(bool done, Progress& progress) const;

 private:
  void require_undamaged();  // waits for the thread
  void plan(OpenModel open, ConvertRequest request, const Context& context);

  std::future<void> undamaged_;  // invalid: not asked, or told
  std::unique_ptr<Conversion> conversion_;
};

}  // namespace qwb
