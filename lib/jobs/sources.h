// Names of the Hugging Face Hub where a tool takes a folder or a file: what is missing is
// downloaded, asking nothing; what is in the cache is used without a request.
#pragma once

#include <string>

#include "lib/base/context.h"
#include "lib/base/file.h"

namespace qwb {

// The folder of a model or artifact: `name` itself if there is such a folder, or if it cannot be
// the name of a repository ("REPO" or "REPO@REVISION"); else the snapshot of that repository.
// Throws what Pull throws.
Path model_folder(const std::string& name, const Context& context);

// The file behind a calibration set's name. lima: train.jsonl of GAIR/lima in the cache, else
// $QWB_DATA/lima.jsonl, else pulled. A .jsonl or .txt file: itself. OWNER/NAME[@REVISION][:FILE]:
// of a data set on the Hub, FILE, else its training part (a .jsonl, or a .txt). Throws not_found
// with the way to get it, usage for what is none of these.
Path calibration_file(const std::string& source, const Context& context);

// A file of a data set on the Hub, "OWNER/NAME". Throws what Pull throws.
Path published_file(const std::string& dataset, const std::string& file, const Context& context);

}  // namespace qwb
