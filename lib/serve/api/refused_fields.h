// Fields that other servers know, that would change the answer, and that qwb has not.
#pragma once

#include "lib/base/json.h"

namespace qwb::serve {

// Throws ApiError 400 naming the first one that asks for something. A value that asks for nothing
// ("response_format": {"type": "text"}) passes, and so do null, [], {} and "".
void refuse_unimplemented(const Json& request, bool chat);

}  // namespace qwb::serve
