#include "lib/base/names.h"

#include <algorithm>
#include <numeric>

namespace qwb {
namespace {

char lower_letter(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Levenshtein distance.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), lower_letter);
  return lower;
}

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower_letter(x) == lower_letter(y); });
}

bool has_suffix(std::string_view file, std::string_view suffix) {
  return file.size() >= suffix.size() &&
         same_name(file.substr(file.size() - suffix.size()), suffix);
}

std::optional<std::string> nearest_name(std::string_view given,
                                        const std::vector<std::string>& names) {
  const std::string lower = lower_case(given);
  const auto distance = [&](const std::string& name) {
    return edit_distance(lower, lower_case(name));
  };
  const auto near = std::min_element(names.begin(), names.end(), [&](const auto& a, const auto& b) {
    return distance(a) < distance(b);
  });
  if (near == names.end() || distance(*near) > std::max<size_t>(2, near->size() / 3))
    return std::nullopt;
  return *near;
}

}  // namespace qwb
