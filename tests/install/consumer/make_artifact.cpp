// Another project: makes a 4 bit artifact of the model argv[1], calibrated with the text argv[2],
// in the cache argv[3], on two threads. The second time it is there already.
#include <iostream>

#include "lib/base/error.h"
#include "lib/jobs/quantize_job.h"

struct Narration : qwb::Progress {
  void note(const std::string& text) override { std::cerr << text << "\n"; }
};

int main(int, char** argv) try {
  Narration narration;
  qwb::StopSource stop;  // stop.request() from another thread ends the work
  const qwb::Context context{qwb::Threads(2), stop.token(), &narration};
  const qwb::Store store({.root = argv[3], .context = context});
  const qwb::QuantizeRequest request{
      .model = argv[1],
      .plan = {.method = &qwb::find_method("gptq"), .given = {{"bits", 4}, {"group_size", 64}}},
      .calibration = {.sources = {{argv[2]}}, .samples = 4, .length = 64}};
  const qwb::CachedArtifact made = qwb::quantize(request, store, {}, context);
  std::cout << made.folder.string() << "\n";
  std::cerr << (made.cached ? "found" : "made") << ", key " << made.key.hex() << "\n";
  return 0;
} catch (const qwb::Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}
