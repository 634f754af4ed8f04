// What every format's writer does: it is asked how it would hold each weight, lays the tensors out,
// and takes them one by one. Conversion (convert.h) drives it from any open model; ArtifactWriter
// (qwb/artifact.h) while a model is being quantized.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "formats/open_model.h"
#include "lib/base/context.h"
#include "lib/base/json.h"
#include "lib/codec/ggml_type.h"
#include "lib/codec/weight.h"

namespace qwb {

// A module that is to be written.
struct TargetModule {
  std::string name = {};     // without ".weight"
  WeightLayout layout = {};  // of the weight that is put
  enum class Role { linear, output_embedding, embedding };
  Role role = Role::linear;
  Orientation plain = Orientation::out_in;  // of the unquantized tensor in this architecture
  DType dtype = DType::bf16;                // of the unquantized model
  // The layout's last parameters (nested_offset) are known after the work only.
  bool provisional = false;
};

// How a weight comes to be held.
enum class How {
  exact,        // the values are those of the source, bit for bit
  rounded,      // codes are, scales lost bits
  requantized,  // new codes
  plain,        // floats
};
// "exact", "scales rounded", "requantized", "dequantized".
std::string how_name(How how);

// What a format says of a weight: it holds it exactly, with rounded scales (if that is allowed), as
// the writer's options ask (requantized or plain); or not at all, and why.
struct Fit {
  bool possible = true;
  How how = How::exact;
  std::string reason = {};                  // why not exact, in words that follow the module's name
  std::optional<WeightLayout> layout = {};  // of what is put, where it is not the module's own
  std::string tensor = {}, type = {};  // where and as what, by the format's own names; may be empty

  static Fit no(std::string why) { return {.possible = false, .reason = std::move(why)}; }
};

// Reads the weight that is asked about, for what its layout does not tell (scales).
using WeightReader = std::function<LoadedWeight()>;

// The stored types of matrices, in a format whose tensors each have one (ModelFormat::typed).
struct TensorTypes {
  std::optional<GgmlType> all;        // nothing: as the matrix is stored, if the format can hold it
  std::optional<GgmlType> plain;      // of what the source does not quantize, where `all` is empty
  std::optional<GgmlType> otherwise;  // of what cannot be held as it is, instead of refusing it
  std::optional<GgmlType> embedding;  // of the token embeddings, where it shall differ
  std::optional<GgmlType> output;     // of the output embedding, where there is one
};

// Encodes `count` finite values (whole blocks) of any type: lib/quantize's quantize_ggml. Handed
// in, because formats knows no quantizer.
using BlockEncoder =
    std::function<void(GgmlType type, const float* values, int64_t count, std::byte* blocks)>;

inline constexpr int64_t kShardBytes = 5'000'000'000;  // of the largest file, unless asked

struct WriterOptions {
  // Of unquantized tensors; nothing: as they are (dequantized: the model's).
  std::optional<DType> dtype;
  int64_t max_shard_bytes = kShardBytes;  // of a file, where a model may have several
  bool replace = false;                   // what is at the place
  TensorTypes types;
  BlockEncoder encode;
  std::string name;  // that the file tells of the model; empty: the source's
};

// A module of a plan.
struct ConvertedModule {
  TargetModule target = {};
  How how = How::exact;
  std::string reason = {};             // why not exact
  std::string tensor = {}, type = {};  // Fit's
  double error = 0;  // |W - W'|^2 / |W|^2 against the source; known after the work
  int64_t source_bytes = 0;
  bool anew = false;  // by ConvertOptions::requantizer
};

// Where a model comes from and what was done to it, for the files that tell it (qwb.json).
struct Provenance {
  Json source = Json::object();  // name, path, revision (null: not known), hash
  std::string method = {};       // that made the codes, as far as it is known
  int64_t method_version = 1;
  Json settings = Json::object();
  // The method is one of this project, and has just been applied: config.json tells it too.
  bool made_here = false;
  std::optional<std::string> isa = {}, products = {};
  std::optional<double> bits = {};  // of a code; nothing: the mean over the modules
  std::vector<std::string> kept = {};
  Json calibration = nullptr;
  std::optional<double> seconds = {};
  std::optional<int64_t> peak_memory = {};
  // By module: weight_error, output_error, seconds, details; method, method_version and settings
  // where they are not those above. All optional.
  std::map<std::string, Json> results = {};
};

class ModelWriter {
 public:
  virtual ~ModelWriter() = default;

  // What becomes of the source's unquantized matrices.
  enum class Matrices {
    beside,  // they stay, beside quantized modules; a model without any has no place here
    alone,   // they stay
    typed,   // they are modules: fit() gives each a type
  };
  virtual Matrices matrices() const = 0;
  // False for a tensor (by its name in the source) that the format leaves out.
  virtual bool takes(const std::string& /*tensor*/) const { return true; }
  // `read` may be empty where there is no weight yet: the answer then says as much as the layout.
  virtual Fit fit(const TargetModule& module, const WeightReader& read) const = 0;
  // The only type of scale there is; nothing: those of the grid are stored as they are.
  virtual std::optional<DType> scale_dtype() const { return std::nullopt; }
  // Whether put() takes codes of four bits as words of eight inputs (PackedReader::read_words).
  virtual bool takes_words() const { return false; }

  // Decides where everything goes: modules that fit; linear modules and output embeddings that stay
  // as they are (without layouts); the source's tensors that belong to no module. Writes nothing.
  // Returns the bytes of all tensors. Throws unsupported for what the format has no room for.
  virtual int64_t lay_out(const std::vector<ConvertedModule>& modules,
                          const std::vector<TargetModule>& kept,
                          const std::vector<std::string>& tensors) = 0;
  // Makes what will be renamed to `place` when it is finished. It goes with the writer.
  virtual void begin(const Path& place) = 0;

  // What put() leaves to be done, if anything: to run before the weight goes, on any thread.
  struct Stored {
    double error = 0;  // that storing added
    std::function<void()> write = {};
  };
  // A module of lay_out(), its weight in the layout that was planned. Finite. From any thread.
  virtual Stored put(const ConvertedModule& module, const Weight& weight, bool words = false) = 0;
  // A tensor of lay_out(), from the source.
  virtual void put_tensor(const std::string& name) = 0;
  // Everything was put: the rest of the files, then all of it appears. False: something is at the
  // place, and stays.
  virtual bool finish(const Provenance& provenance) = 0;
};

}  // namespace qwb
