#include "lib/evaluate/estimate_json.h"

#include <cmath>
#include <limits>

#include "lib/base/error.h"

namespace qwb {

Json number_json(std::optional<double> value) {
  return value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}

Json text_json(const std::string& value) {
  return value.empty() ? Json(nullptr) : Json(value);
}

Json interval_json(const std::optional<Interval>& interval) {
  if (!interval) return nullptr;
  return Json::array({number_json(interval->low), number_json(interval->high)});
}

Json estimate_json(const Estimate& estimate) {
  return {{"value", number_json(estimate.value)},
          {"stderr", number_json(estimate.standard_error)},
          {"interval", interval_json(estimate.interval)}};
}

double number_from_json(const Json& json) {
  return json.is_number() ? json.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

Estimate estimate_from_json(const Json& json, const std::string& where) {
  if (!json.is_object() || !json.contains("value"))
    throw Error(ErrorKind::failed, "not an estimate", where);
  Estimate estimate;
  estimate.value = number_from_json(json.at("value"));
  if (json_has(json, "stderr")) estimate.standard_error = json_number(json, "stderr", where);
  if (json_has(json, "interval") && json.at("interval").is_array() &&
      json.at("interval").size() == 2) {
    estimate.interval = Interval{number_from_json(json.at("interval").at(0)),
                                 number_from_json(json.at("interval").at(1))};
  }
  return estimate;
}

}  // namespace qwb
