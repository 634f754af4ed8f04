// Pickles of PyTorch checkpoints, read into a description. Nothing is called, imported or looked
// up: names are compared with a list of those that a state dict needs. Byte-exact page:
// formats/pickle/pickle.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/bytes.h"

namespace qwb {

enum class PickleKind {
  none,
  boolean,
  integer,
  real,
  text,
  tuple,
  list,
  set,
  dict,     // items: key, value, key, value, ...
  global,   // text: "torch.FloatStorage"
  storage,  // items: what the persistent id held: 'storage', type, key, location, elements, ...
  tensor,   // text: the global that rebuilds it; items: its arguments
  device,
};

// Places in PickleGraph::values.
using PickleId = uint32_t;

struct PickleValue {
  PickleKind kind = PickleKind::none;
  int64_t number = 0;  // of a boolean or an integer
  std::string text;
  std::vector<PickleId> items;
};

// The values of one pickle. They may share parts and, if the file is hostile, contain themselves:
// whoever walks them goes down a fixed number of levels.
struct PickleGraph {
  std::vector<PickleValue> values;
  PickleId root = 0;
  size_t end = 0;  // the byte after STOP

  const PickleValue& at(PickleId id) const { return values[id]; }
};

// Reads the pickle that begins at `begin` of `bytes`. Throws `unsupported` for an operation or a
// global that no state dict needs, naming it and its byte, `failed` for damage.
PickleGraph parse_pickle(Bytes bytes, size_t begin, const std::string& where);

// "an integer", "a dict", ...
std::string pickle_kind_name(PickleKind kind);

}  // namespace qwb
