// From a request to a tuned adapter: base, data, template, the memory it takes, the steps, what is
// kept for a run that goes on, the folder.
//
// Beside OUT stands OUT.tune while a run is under way:
//   lock        held by the process that works
//   state       a line of JSON (what the run is of, how far it is), then factors and moments, f32
//   log.jsonl   a record a step, a record a measurement of what is held out
//   best/       the adapter of the lowest held-out loss so far
// Every file is written under another name and renamed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/tune/settings.h"

namespace qwb {

class Executor;
class Tuning;

enum class Recompute { automatic, on, off };

struct TuneRequest {
  Path model = {};        // a folder or file in any format
  std::string base = {};  // what adapter_config.json calls it
  std::string data = {};  // as the user calls it
  Path file = {};         // .jsonl or .txt
  Path out = {};
  TuneSettings settings = {};
  std::optional<Path> chat_template = {};  // a file; nothing: the model's, else roles as text
  Recompute recompute = Recompute::automatic;
  int64_t micro_tokens = 0;  // 0: --length, or less where memory is scarce
  int64_t max_memory = 0;    // bytes; 0: what is free
  double eval_every = 0.25;  // epochs
  int64_t patience = 0;      // measurements without a better one before the run ends; 0: never
  int64_t save_every = 0;    // steps; 0: at every measurement and 20 times at least
  bool resume = true;
  bool keep_state = false;
  bool replace = false;  // what is at `out`
};

// What a run comes to, known before it.
struct TunePlan {
  int64_t modules = 0, values = 0;  // adapted; of all factors
  int64_t documents = 0, tokens = 0, supervised = 0, held = 0;
  int64_t steps = 0;
  int64_t micro_tokens = 0, kept_blocks = 0;
  int64_t memory = 0;  // bytes at the peak, mapped weights included
};

class TuneJob {
 public:
  // Opens the base, reads the data, makes the factors. Tells decisions through `context`. Throws
  // what these throw; usage for no token to learn, a pattern without a match and settings out of
  // range; `failed` where memory does not suffice.
  TuneJob(TuneRequest request, std::shared_ptr<const Executor> executor, const Context& context);
  TuneJob(TuneJob&&) noexcept;
  ~TuneJob();

  const TunePlan& plan() const;
  Json plan_json() const;
  // One document as the model reads it, what is not learned in [[ ]].
  std::string sample() const;
  // Seconds that the whole run will take, measured on one group of documents.
  double estimate_seconds(const Context& context) const;

  // Goes on where an earlier run of the same request stopped. Tells every record to `record`.
  // Returns the summary that qwb-adapter.json holds. On Ctrl-C what is learned is at OUT, and
  // interrupted is thrown. Throws usage where OUT.tune is of another base, data or settings, and
  // request.resume does not say to begin anew; what Trainer::step and write_peft throw.
  Json run(const Context& context, const std::function<void(const Json&)>& record);

 private:
  std::unique_ptr<Tuning> tuning_;
};

}  // namespace qwb
