// What is in an adapter, as the record that qwb-inspect shows and prints as JSON.
#pragma once

#include "lib/base/file.h"
#include "lib/base/json.h"

namespace qwb {

// Whether a folder holds an adapter as PEFT writes it, and no model.
bool is_adapter_folder(const Path& folder);

// schema, path, kind "adapter", format, base (null: not told), revision, rank, alpha, rslora,
// dropout, targets, adapted (modules), parameters, hash, replaced (names of tensors); with
// `modules` of each module name, rank, in, out, scale and delta, the Frobenius norm of what it
// adds. Throws what read_peft throws.
Json describe_adapter(const Path& folder, bool modules);

}  // namespace qwb
