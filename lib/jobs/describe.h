// What is in a model folder, as the record that qwb-inspect shows and prints as JSON.
#pragma once

#include <string>

#include "formats/registry.h"
#include "lib/base/context.h"
#include "lib/base/file.h"
#include "lib/base/json.h"
#include "lib/codec/weight.h"

namespace qwb {

struct DescribeOptions {
  bool modules = false;  // the table of modules
  bool tensors = false;  // the table of stored tensors
  bool hash = true;      // reads every byte, unless the memo folder knows the answer
  Path memo_folder;      // may be empty
};

// schema, path, format, architecture, sizes (null: the architecture is not known to this build),
// parameters, bytes (of all tensors), file_bytes, bpw, hash; of an artifact also method, bits,
// settings, source, calibration, isa, qwb_version, totals, kept, methods (number of modules of
// each), report (what happened, in words); modules and tensors if asked for. Throws what reading
// throws.
Json describe_model(const OpenModel& open, const DescribeOptions& options,
                    const Context& context = {});

// One module (its name without ".weight") or one tensor by its full name: its entry of the table,
// and "values": count, min, max, mean, std, absmax, zeros (share), non_finite (count) of the
// dequantized values; the statistics are those of the finite ones, null if there is none. Throws
// not_found, naming names that are alike.
Json describe_module(const OpenModel& open, const std::string& name, const Context& context = {});

// The statistics of a weight's values (see describe_module). The result does not depend on the
// number of threads.
Json value_statistics(const Weight& weight, const Context& context = {});

}  // namespace qwb
