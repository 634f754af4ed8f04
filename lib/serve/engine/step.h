// One step of a model: a token more for every choice that is being made, and a piece more of one
// prompt, in one pass over the weights.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/serve/engine/running_job.h"

namespace qwb::serve {

class Step {
 public:
  // All of the same model.
  explicit Step(const EngineModel& model) : model_(model) {}
  void add_choice(RunningJob& job, size_t choice);
  void add_piece(RunningJob& job, int64_t piece);

  struct Failure {
    RunningJob* job;
    Error error;
  };
  // Whatever goes wrong is the failure of one job, or of all that had a part in it.
  std::vector<Failure> run();

 private:
  struct Part {
    RunningJob* job;
    size_t choice;
    std::span<const int32_t> tokens;
    bool piece;  // of a prompt
    int64_t last_row = 0;
    std::optional<Error> error = {};
    std::optional<ScoredToken> token = {};
  };
  void forward();
  void share_time(double seconds);
  void read_pieces();
  void draw();
  // body(part) for all that are sound; what it throws becomes the part's error.
  template <class Body>
  void each_sound(const Body& body);

  const EngineModel& model_;
  std::vector<Part> parts_;
  Matrix hidden_;
};

}  // namespace qwb::serve
