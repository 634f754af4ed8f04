// What GGUF files call an architecture, its tensors and its settings, as data beside the
// architecture: formats/gguf reads and writes files by it. What all files have in one form stands
// there: scalings of the rotary embedding, the size of the vocabulary, tied embeddings.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/json.h"
#include "lib/model/config.h"

namespace qwb {

// How the stored tensor differs from the Hugging Face one.
enum class GgufLayout {
  plain,
  transposed,  // GPT-2's Conv1D is [in, out] there and [out, in] here; a bias is plain
  heads,       // Llama's q and k: the rows of every head interleaved (GgmlBlocks::head_rows)
};

// Names without ".weight" and ".bias".
struct GgufTensorName {
  std::string gguf;
  std::string huggingface;
  GgufLayout layout = GgufLayout::plain;
};

// A key of the file's, or a part of config.json, or both.
struct GgufSetting {
  enum class Kind { integer, number };
  std::string key;          // behind the architecture's name and a dot
  std::string config = {};  // the key in config.json; empty: it is not there
  // What is written (&ModelConfig::layers, say); empty, or null: nothing is.
  std::function<Json(const ModelConfig& config)> value = {};
  Kind kind = Kind::integer;
  // What a file without the key means, by the settings before it. Empty: such a file is damaged.
  std::function<Json(const Json& config)> absent = {};
  // What a file is refused for that says anything else than `absent`. Empty: it is not.
  std::string refusal = {};
};

// A part of config.json that is true exactly if the file has the tensor.
struct GgufSwitch {
  std::string config;
  std::string tensor;
};

struct GgufSpec {
  std::string name;  // general.architecture
  std::vector<GgufTensorName> top;
  std::vector<GgufTensorName> layer;  // "blk.N." here, `layer_prefix` and "N." there
  std::string layer_prefix;
  std::string optional_prefix = {};   // some checkpoints' names lack it
  std::vector<GgufSetting> settings;  // in the order of the file
  std::vector<GgufSwitch> switches = {};
  // config.json in its order; null: filled in from the settings, model_type and vocab_size by all.
  Json config = Json::object();
  bool rope = true;         // the file has the keys of the rotary embedding
  bool tied_twice = false;  // converters wrote the tied embedding as output.weight too
  // Of several architectures with this name it is that one whose mark is positive; else the one
  // without a mark. Behind all others in the file.
  std::optional<GgufSetting> mark = {};
  // What of a model has no place in GGUF, for a message; empty: nothing.
  std::function<std::string(const ModelConfig& config)> obstacle = {};
};

}  // namespace qwb
