// Numbers and texts of a record by JSON pointer, checked. Absent and null read as nothing; another
// type is an error that names the place.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/report/report.h"

namespace qwb::report {

struct Reading;

class Fields {
 public:
  Fields(const Json& record, std::string where) : record_(record), where_(std::move(where)) {}

  const Json* find(const std::string& pointer) const;  // null: absent or null
  bool has(const std::string& pointer) const { return find(pointer) != nullptr; }
  // All throw `failed` for another type.
  std::optional<double> number(const std::string& pointer) const;
  int64_t integer(const std::string& pointer) const;  // 0 without
  std::string text(const std::string& pointer) const;
  std::optional<Interval> interval(const std::string& pointer) const;  // [low, high], low <= high
  // {value, stderr, interval}; `why` if it has no value.
  Figure estimate(const std::string& pointer, const std::string& why) const;

 private:
  const Json& record_;
  std::string where_;
};

// The readings of a record's energy.
void add_energy_readings(const Fields& fields, std::vector<Reading>& readings);

}  // namespace qwb::report
