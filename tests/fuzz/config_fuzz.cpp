// Any text as config.json: refused with a qwb::Error, or sizes that a model can have.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const qwb::ModelConfig config = qwb::parse_config(qwb::parse_json(text, "fuzz"), "fuzz");
    if (config.vocab <= 0 || config.hidden <= 0 || config.heads <= 0 || config.kv_heads <= 0)
      std::abort();
    if (config.heads % config.kv_heads != 0) std::abort();
    if (static_cast<int64_t>(config.window.size()) > config.layers) std::abort();
  } catch (const qwb::Error&) {
    return 0;
  }
  return 0;
}
