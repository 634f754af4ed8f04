// The line of the log that a request leaves. Never what was asked or answered.
#pragma once

#include <string>

#include "lib/serve/http/server.h"

namespace qwb::serve {

// "203.0.113.7 POST /v1/completions 200 model=llama prompt=12 (cached 0) made=20 stop queue=0.1ms
// ttft=5.3ms total=80ms id=..."; `json`: the same as one line of JSON, with the time.
std::string log_line(const RequestLog& log, bool json);

}  // namespace qwb::serve
