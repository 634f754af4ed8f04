// What config.json alone tells of a model whose weights are not here: whether this build runs it,
// how large it is, and what each method would make of it.
#pragma once

#include <cstdint>
#include <string>

#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb {

// A name on the Hub whose files are not all here.
struct RemoteModel {
  std::string name;          // as it was given
  Path folder;               // holds its config.json
  int64_t file_bytes = 0;    // of the files that a pull would fetch
  std::string weights = {};  // why its weights cannot be read; empty: they can
};

// The model of that name if it is one of the Hub and a pull would have to fetch more than a few
// megabytes: its config.json is fetched, no weights. Nothing for folders, files and models that are
// here. Throws what pulling throws.
bool find_remote_model(const std::string& name, const Context& context, RemoteModel& found);

// schema, path, preview (true), architecture, format, supported, why (null if it is), sizes (null
// if it is not), parameters, used_parameters (that one token is multiplied with; experts that it
// is not sent to are not), file_bytes, context, cache_bytes (of keys and values at that length),
// methods: name, bits, bpw, bytes, memory (bytes with the cache). Throws `failed` for a broken
// config.json.
Json preview_model(const RemoteModel& model);

}  // namespace qwb
