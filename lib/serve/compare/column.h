// A version's part of a comparison.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/stop.h"
#include "lib/serve/api/api_error.h"
#include "lib/serve/api/service.h"
#include "lib/serve/compare/along.h"
#include "lib/serve/compare/compare_request.h"
#include "lib/serve/compare/departure.h"
#include "lib/serve/engine/job.h"

namespace qwb::serve {

struct Column {
  const ServedModel* model = nullptr;
  CompletionRequest request;
  std::vector<int32_t> prompt;
  StopSource cut;  // its answer is no longer wanted
  // The answer, written by the engine's thread until it is over.
  std::vector<ScoredToken> made;
  std::string finish;  // "stop", "length", "stopped"; empty: it is not over, or failed
  JobCounts counts;
  std::optional<ApiError> error;
  bool departure_told = false;

  bool greedy() const { return request.sampling.temperature == 0; }
  bool over() const { return error || !finish.empty(); }
  // Its answer, with the token that ended it.
  std::vector<int32_t> tokens() const;
};

// The column with its prompt read, or the error that came of it. body: column_body(). `seed`: where
// the request has none.
Column read_column(const ServedModel& model, const Json& body, bool chat, uint64_t seed);
// Its job, without a listener. Throws ApiError.
Job column_job(const Column& column, Service& service, const std::string& owner);

// The events that tell of it (comparison.h).
Json column_json(const Column& column, size_t index);
Json finish_event(const Column& column, size_t index);
Json departure_event(const Column& base, const Column& column, size_t index,
                     const std::string& reason);
Json along_event(const Tokenizer& tokenizer, const std::vector<AlongToken>& tokens, size_t index,
                 const std::string& reason);

}  // namespace qwb::serve
