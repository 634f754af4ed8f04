// What POST /qwb/v1/compare is asked: one prompt, or a conversation a column, for several versions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/serve/api/completion_request.h"
#include "lib/serve/api/service.h"

namespace qwb::serve {

inline constexpr size_t kMostColumns = 16;

struct ColumnRequest {
  const ServedModel* model = nullptr;
  Json own;  // its fields, which count more than those that all share
};

struct CompareRequest {
  std::vector<ColumnRequest> columns;
  Json shared;             // fields of all columns
  bool chat = false;       // messages, not prompts
  size_t base = 0;         // the column that the others are compared with
  bool compared = true;    // false: the base is not among the columns
  bool at_once = false;    // all run beside each other; else one after the other
  size_t first = 0;        // the column whose turn comes first; the others follow cyclically
  bool along = true;       // agreement along the base's answer
  bool self_check = true;  // the base answers twice
};

// Fields of its own: "columns" ([{"model", "messages" or "prompt"}]) or "models" (names; where it
// is missing, all), "base", "mode" ("in_turns", "at_once"), "first", "along", "self_check". The
// others are those of the OpenAI routes and go to every column; those of a column count more.
// Throws ApiError 400 or 404 naming the field, also for one that is not known: nobody but this
// program's clients asks here.
CompareRequest read_compare_request(const Json& request, const Service& service);
// What the OpenAI route would be asked for this column.
Json column_body(const CompareRequest& request, const ColumnRequest& column);

}  // namespace qwb::serve
