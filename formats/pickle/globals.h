// The globals that a state dict needs: names with a known meaning, none of which is ever called.
#pragma once

#include <optional>
#include <string_view>

#include "formats/pickle/pickle.h"
#include "lib/tensor/dtype.h"

namespace qwb {

// What a pickle may do with a global.
enum class GlobalUse {
  ordered_dict,
  rebuild_tensor,
  rebuild_parameter,
  size,
  device,
  encode,
  tag,  // only named: types of storages and of elements, classes of parameters
};

// Nothing for every other name.
std::optional<GlobalUse> known_global(std::string_view name);
// The elements of "torch.FloatStorage"; nothing for UntypedStorage and other names.
std::optional<DType> storage_type(std::string_view global);
// Of "torch.float32".
std::optional<DType> element_type(std::string_view global);

}  // namespace qwb
