// From a request to jobs of the engine, for every route that makes text.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/serve/api/completion_request.h"
#include "lib/serve/api/served_model.h"
#include "lib/serve/api/service.h"
#include "lib/serve/engine/job.h"

namespace qwb::serve {

// Gives every prompt of the request its tokens. Throws ApiError 400: for what the chat template
// refuses, for tokens that the model has not, for more of them than the context.
void read_tokens(const ServedModel& model, CompletionRequest& request);
// The job of one prompt, without whoever listens to it.
Job job_of(const ServedModel& model, const CompletionRequest& request,
           const std::vector<int32_t>& tokens, const Service& service);

}  // namespace qwb::serve
