#include "tools/common/number_checks.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string>

#include "lib/base/error.h"
#include "tools/common/quantities.h"

namespace qwb {
namespace {

constexpr size_t kShown = 40;  // characters of what was given

std::string figure_text(double value) {
  const bool whole = std::abs(value) < 1e20 && value == std::floor(value);
  return whole ? fmt::format("{:.0f}", value) : fmt::format("{:g}", value);
}

// `allowed` and what it allows, in words: "must be at least 0".
CLI::Validator number_check(const std::string& words, const std::function<bool(double)>& allowed) {
  const auto check = [words, allowed](std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    const std::string shown = text.size() <= kShown ? text : text.substr(0, kShown) + "…";
    if (text.empty()) return "the value is empty; it must be " + words;
    if (end != text.c_str() + text.size() || std::isnan(value))
      return "'" + shown + "' is no number";
    if (!std::isfinite(value) || !allowed(value)) return "must be " + words + ", not " + shown;
    return std::string();
  };
  return {check, ""};
}

}  // namespace

CLI::Validator at_least(double least) {
  return number_check("at least " + figure_text(least),
                      [least](double value) { return value >= least; });
}

CLI::Validator above(double bound) {
  return number_check("above " + figure_text(bound),
                      [bound](double value) { return value > bound; });
}

CLI::Validator between(double least, double most) {
  return number_check(figure_text(least) + " to " + figure_text(most),
                      [least, most](double value) { return value >= least && value <= most; });
}

CLI::Option* add_size(CLI::App& app, const std::string& name, int64_t& bytes,
                      const std::string& help) {
  const auto check = [](std::string& text) -> std::string {
    try {
      return parse_bytes(text) > 0 ? "" : "must be more than 0 bytes, not " + text;
    } catch (const Error& error) {
      return error.what();
    }
  };
  return app
      .add_option_function<std::string>(
          name, [&bytes](const std::string& text) { bytes = parse_bytes(text); }, help)
      ->check(CLI::Validator(check, ""))
      ->type_name("SIZE");
}

}  // namespace qwb
