#include "formats/pickle/globals.h"

#include <algorithm>
#include <array>
#include <utility>

namespace qwb {
namespace {

using Named = std::pair<std::string_view, GlobalUse>;

constexpr std::array<Named, 11> kGlobals = {{
    {"collections.OrderedDict", GlobalUse::ordered_dict},
    {"torch._utils._rebuild_tensor", GlobalUse::rebuild_tensor},
    {"torch._utils._rebuild_tensor_v2", GlobalUse::rebuild_tensor},
    {"torch._utils._rebuild_tensor_v3", GlobalUse::rebuild_tensor},
    {"torch._utils._rebuild_parameter", GlobalUse::rebuild_parameter},
    {"torch.Size", GlobalUse::size},
    {"torch.device", GlobalUse::device},
    {"_codecs.encode", GlobalUse::encode},
    {"torch.nn.parameter.Parameter", GlobalUse::tag},
    {"torch.storage.UntypedStorage", GlobalUse::tag},
    {"torch.UntypedStorage", GlobalUse::tag},
}};

using Typed = std::pair<std::string_view, DType>;

constexpr std::array<Typed, 10> kStorages = {{{"torch.FloatStorage", DType::f32},
                                              {"torch.HalfStorage", DType::f16},
                                              {"torch.BFloat16Storage", DType::bf16},
                                              {"torch.DoubleStorage", DType::f64},
                                              {"torch.LongStorage", DType::i64},
                                              {"torch.IntStorage", DType::i32},
                                              {"torch.ShortStorage", DType::i16},
                                              {"torch.CharStorage", DType::i8},
                                              {"torch.ByteStorage", DType::u8},
                                              {"torch.BoolStorage", DType::boolean}}};

constexpr std::array<Typed, 13> kElements = {{{"torch.float32", DType::f32},
                                              {"torch.float16", DType::f16},
                                              {"torch.bfloat16", DType::bf16},
                                              {"torch.float64", DType::f64},
                                              {"torch.int64", DType::i64},
                                              {"torch.int32", DType::i32},
                                              {"torch.int16", DType::i16},
                                              {"torch.int8", DType::i8},
                                              {"torch.uint8", DType::u8},
                                              {"torch.bool", DType::boolean},
                                              {"torch.uint64", DType::u64},
                                              {"torch.uint32", DType::u32},
                                              {"torch.uint16", DType::u16}}};

template <class Table>
auto found_in(const Table& table, std::string_view name) {
  const auto it = std::find_if(table.begin(), table.end(),
                               [&](const auto& entry) { return entry.first == name; });
  return it == table.end() ? std::nullopt : std::optional(it->second);
}

}  // namespace

std::optional<DType> storage_type(std::string_view global) {
  return found_in(kStorages, global);
}

std::optional<DType> element_type(std::string_view global) {
  return found_in(kElements, global);
}

std::optional<GlobalUse> known_global(std::string_view name) {
  if (storage_type(name) || element_type(name)) return GlobalUse::tag;
  return found_in(kGlobals, name);
}

std::string pickle_kind_name(PickleKind kind) {
  switch (kind) {
    case PickleKind::none:
      return "None";
    case PickleKind::boolean:
      return "a truth value";
    case PickleKind::integer:
    case PickleKind::real:
      return "a number";
    case PickleKind::text:
      return "a text";
    case PickleKind::tuple:
      return "a tuple";
    case PickleKind::list:
      return "a list";
    case PickleKind::set:
      return "a set";
    case PickleKind::dict:
      return "a dict";
    case PickleKind::global:
      return "a name";
    case PickleKind::storage:
      return "a storage";
    case PickleKind::tensor:
      return "a tensor";
    case PickleKind::device:
      return "a device";
  }
  return {};
}

}  // namespace qwb
