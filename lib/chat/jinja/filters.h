// The filters in three tables: of text, of numbers and of sequences.
#pragma once

#include <map>

#include "lib/chat/jinja/builtins.h"

namespace qwb::jinja {

struct FilterCall {
  const Value& value;
  const Bound& given;
  Budget& budget;
};
struct Filter {
  const char* parameters;  // as of Bound
  Value (*call)(const FilterCall&);
};
using FilterTable = std::map<std::string_view, Filter>;

const FilterTable& text_filters();
const FilterTable& number_filters();
const FilterTable& sequence_filters();

// map, select, reject, selectattr, rejectattr: their arguments are the name of a filter or a test
// and its arguments.
bool is_lazy_filter(std::string_view name);
Value apply_lazy_filter(std::string_view name, const Value& value, const Arguments& arguments,
                        Budget& budget);
// format: positions or names, as many as there are.
Value apply_format_filter(const Value& value, const Arguments& arguments, Budget& budget);

}  // namespace qwb::jinja
