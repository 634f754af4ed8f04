// Opening a model folder whatever its format, and the list of all formats. A new format is one line
// in registry.cpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/model_format.h"
#include "formats/open_model.h"
#include "lib/base/context.h"
#include "lib/base/file.h"

namespace qwb {

// Every format. Of those that detect a place the first one opens it.
const std::vector<ModelFormat>& model_formats();
// Of those that can be written, in any case of its name. Throws usage, listing the names.
const ModelFormat& find_format(std::string_view name);
// For a program that brings a format of its own; it is asked first. Before the first model is
// opened: not thread-safe.
void add_format(ModelFormat format);

// A folder, or a file that holds a whole model, complete and understood (formats/model_check.h).
// What was left out or set right is told to `context`, a note each. Throws not_found, unsupported
// (naming what is there instead, and what to do) or `failed`.
OpenModel open_model(const Path& folder, const Context& context = {});

// True if some format recognizes what is there, whether or not it can be opened.
bool detect_model(const Path& folder);

}  // namespace qwb
