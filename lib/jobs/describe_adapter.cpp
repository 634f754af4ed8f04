#include "lib/jobs/describe_adapter.h"

#include <algorithm>
#include <cmath>

#include "lib/adapt/peft_reader.h"

namespace qwb {
namespace {

// |s B A|: the products of the small matrices B^T B and A A^T suffice.
double delta_norm(const AdapterModule& m) {
  double sum = 0;
  for (int64_t k = 0; k < m.rank; ++k) {
    for (int64_t l = 0; l < m.rank; ++l) {
      double b = 0, a = 0;
      for (int64_t o = 0; o < m.out; ++o)
        b += static_cast<double>(m.b[o * m.rank + k]) * static_cast<double>(m.b[o * m.rank + l]);
      for (int64_t i = 0; i < m.in; ++i)
        a += static_cast<double>(m.a[k * m.in + i]) * static_cast<double>(m.a[l * m.in + i]);
      sum += a * b;
    }
  }
  return std::abs(static_cast<double>(m.scale)) * std::sqrt(std::max(sum, 0.0));
}

Json text_or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

}  // namespace

bool is_adapter_folder(const Path& folder) {
  std::error_code ignored;
  return std::filesystem::exists(folder / "adapter_config.json", ignored) &&
         !std::filesystem::exists(folder / "config.json", ignored);
}

Json describe_adapter(const Path& folder, bool modules) {
  const Adapter adapter = read_peft(folder).adapter;
  const AdapterSettings& s = adapter.settings;
  Json record = {{"schema", 1},
                 {"path", folder.string()},
                 {"kind", "adapter"},
                 {"format", "peft"},
                 {"base", text_or_null(s.base)},
                 {"revision", text_or_null(s.revision)},
                 {"rank", s.rank},
                 {"alpha", s.alpha},
                 {"rslora", s.rslora},
                 {"dropout", s.dropout},
                 {"targets", s.targets},
                 {"adapted", adapter.modules.size()},
                 {"parameters", adapter.values()},
                 {"hash", content_hash(adapter)},
                 {"replaced", Json::array()}};
  for (const auto& [name, tensor] : adapter.replaced) record["replaced"].push_back(name);
  if (!modules) return record;
  record["modules"] = Json::array();
  for (const AdapterModule& m : adapter.modules) {
    record["modules"].push_back({{"name", m.module},
                                 {"rank", m.rank},
                                 {"in", m.in},
                                 {"out", m.out},
                                 {"scale", m.scale},
                                 {"delta", delta_norm(m)}});
  }
  return record;
}

}  // namespace qwb
