#include "lib/serve/api/fields.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "lib/serve/api/api_error.h"

namespace qwb::serve {

Fields::Fields(const Json& object, std::string prefix)
    : object_(object), prefix_(std::move(prefix)) {}

void Fields::refuse(const std::string& name, const std::string& problem) const {
  throw ApiError(400, prefix_ + name + ": " + problem, prefix_ + name);
}

const Json* Fields::find(const std::string& name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<bool> Fields::boolean(const std::string& name) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse(name, "must be true or false");
  return value->get<bool>();
}

std::optional<int64_t> Fields::integer(const std::string& name, int64_t least, int64_t most) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  std::optional<int64_t> number;
  if (value->is_number_unsigned()) {
    const auto unsigned_number = value->get<uint64_t>();
    if (unsigned_number <= static_cast<uint64_t>(INT64_MAX))
      number = static_cast<int64_t>(unsigned_number);
  } else if (value->is_number_integer()) {
    number = value->get<int64_t>();
  } else if (value->is_number_float()) {
    const auto real = value->get<double>();
    if (real == std::floor(real) && std::abs(real) < 9e15) number = static_cast<int64_t>(real);
  }
  if (!number || *number < least || *number > most)
    refuse(name, fmt::format("must be a whole number from {} to {}", least, most));
  return number;
}

std::optional<double> Fields::number(const std::string& name, double least, double most) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : NAN;
  if (!(number >= least && number <= most))
    refuse(name, fmt::format("must be a number from {} to {}", least, most));
  return number;
}

std::optional<std::string> Fields::text(const std::string& name) const {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse(name, "must be a string");
  return value->get<std::string>();
}

}  // namespace qwb::serve
