// What a calibrated run leaves behind after every block, so that the same command goes on there
// after anything: a kill, a crash, a full disk. One folder for one key:
//   lock                       held by the process that works
//   modules-NNNNN.safetensors  the modules that block NNNNN added (numbered from 1), and how they
//                              came out
//   streams-NNNNN              the activations after block NNNNN: a line of JSON with sizes and
//                              XXH3-128, then bytes
// A file is written under another name and renamed when it is whole. Only the newest streams are
// kept; the modules of all blocks before them are.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/base/file_lock.h"
#include "lib/quantize/pipeline.h"

namespace qwb {

class RunJournal : public ModuleSink, public RunState {
 public:
  // Takes the folder (made if absent). Without progress to continue, or with damage, it starts
  // empty. Nothing if another process works on the same or the folder cannot be used: `context` is
  // told.
  static std::unique_ptr<RunJournal> open(const Path& folder, const Plan& plan, ModuleSink& next,
                                          const Context& context);
  // Removes what is left of runs that nobody came back to for this long. Never throws.
  static void sweep(const Path& journals, double max_age_seconds) noexcept;

  // The number of blocks that need not be done again.
  int64_t finished_blocks() const override { return finished_; }
  // Hands the finished modules to the next sink.
  void replay();
  // The run is over: nothing of it is needed any more.
  void remove();

  void put(const PlannedModule& module, const QuantizedTensor& tensor,
           const ModuleReport& report) override;
  void replace(const std::string& tensor, const TensorView& values) override;
  void restore(ResidualStream& stream, ResidualStream* reference) override;
  void save(int64_t blocks, const ResidualStream& stream, const ResidualStream* reference) override;

 private:
  RunJournal(Path folder, const Plan& plan, ModuleSink& next, const Context& context)
      : folder_(std::move(folder)), plan_(plan), next_(next), context_(context) {}
  Path modules_file(int64_t block) const;
  Path streams_file(int64_t block) const;
  bool usable(int64_t block);
  void look_back();
  void replay(int64_t block);
  void write_modules(int64_t block);
  void write_streams(int64_t block, const ResidualStream& stream, const ResidualStream* reference);

  Path folder_;
  const Plan& plan_;
  ModuleSink& next_;
  Context context_;
  std::shared_ptr<FileLock> lock_;
  int64_t finished_ = 0;
  std::vector<std::string> module_hashes_;  // of the blocks until now
  bool broken_ = false;                     // could not be written: the run goes on without

  // Since the last save.
  std::vector<std::pair<std::string, std::vector<std::byte>>> parts_;
  std::vector<PartSpec> specs_;
  Json reports_ = Json::array();
};

}  // namespace qwb
