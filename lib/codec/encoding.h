// How the values of a weight are stored: a codec's typed parameters and its parts. One pair of
// files per codec in this folder says everything about it: the layout, what makes it valid, and in
// plain loops which values the codes stand for. Every codec is drawn byte by byte in
// formats/qwb/qwb.md.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/error.h"
#include "lib/base/json.h"
#include "lib/tensor/tensor.h"

namespace qwb {

// Whether the stored matrix is [out, in] (torch Linear) or [in, out] (GPT-2's Conv1D).
enum class Orientation { out_in, in_out };

struct WeightShape {
  int64_t out = 0;  // output channels (rows of the Linear weight)
  int64_t in = 0;   // input channels
  Orientation orientation = Orientation::out_in;

  // Of the stored matrix.
  int64_t rows() const { return orientation == Orientation::out_in ? out : in; }
  int64_t columns() const { return orientation == Orientation::out_in ? in : out; }
  int64_t count() const { return checked_mul(out, in, "weight"); }
  bool operator==(const WeightShape&) const = default;
};

// Name, type and shape of a tensor without its bytes.
struct PartSpec {
  std::string name;
  DType dtype;
  Shape shape;
  bool operator==(const PartSpec&) const = default;
};
// Bytes of that tensor; throws if they overflow.
int64_t part_bytes(const PartSpec& spec);

using PartViews = std::map<std::string, TensorView>;  // by the names of a codec's parts

class ParameterReader;

// The views of its parts have no bytes while only the layout is known; those that it does not have
// have no shape either.
class Encoding {
 public:
  virtual ~Encoding() = default;

  // Its name in files: "integer-grid".
  std::string codec() const { return kind_; }
  // The parts that it has, codes first.
  virtual std::vector<std::pair<std::string, TensorView>> parts() const = 0;
  // What a reader needs besides the parts: numbers by name, sorted. Those that only quantizing
  // tells are absent before.
  virtual Json parameters() const = 0;
  // Bits of one code (the type's for dense weights), scales and zero points apart.
  virtual int code_bits() const = 0;
  // Throws `failed` or unsupported, naming `where`, unless parameters and parts are exactly what
  // the codec asks for. Kernels rely on it.
  virtual void check(const WeightShape& shape, const std::string& where) const = 0;
  // The values [columns] of one row of the stored matrix, in f64 from the definition: what fast
  // decoding is tested against, and what decodes a codec that has no other.
  virtual void decode_row(const WeightShape& shape, int64_t row, double* values) const = 0;

  // A copy whose parts of these names are these views. Throws `failed` for names of no part.
  virtual std::shared_ptr<const Encoding> with_parts(const PartViews& views,
                                                     const std::string& where) const = 0;

 protected:
  explicit Encoding(const char* kind) : kind_(kind) {}
  Encoding(const Encoding&) = default;
  Encoding& operator=(const Encoding&) = default;
  const char* kind_;  // T::kName, whose address tells the type

  friend struct WeightLayout;
};

// Throws `failed`: the bytes are not what their codec asks for.
[[noreturn]] void damaged_weight(const std::string& what, const std::string& where);
// Throws `failed` unless the view is of that type and shape and as long as it says. Views of a
// layout have no bytes.
void expect_part(const TensorView& view, const PartSpec& spec, const std::string& where);

// What the codecs share. A codec T has
//   static constexpr char kName[]      its name in files
//   static constexpr NamedPart<T> kParts[]   its parts, codes first
//   void read(ParameterReader&, const PartViews&)   takes its parameters as a file has them
template <class T>
struct NamedPart {
  const char* name;
  TensorView T::*view;
};

template <class T>
class EncodingOf : public Encoding {
 public:
  std::vector<std::pair<std::string, TensorView>> parts() const override {
    std::vector<std::pair<std::string, TensorView>> present;
    for (const NamedPart<T>& part : T::kParts) {
      const TensorView& view = self().*part.view;
      if (!view.shape.empty()) present.emplace_back(part.name, view);
    }
    return present;
  }
  std::shared_ptr<const Encoding> with_parts(const PartViews& views,
                                             const std::string& where) const override {
    auto copy = std::make_shared<T>(self());
    copy->set_parts(views, where);
    return copy;
  }
  void set_parts(const PartViews& views, const std::string& where) {
    size_t used = 0;
    for (const NamedPart<T>& part : T::kParts) {
      const auto it = views.find(part.name);
      if (it == views.end()) continue;
      static_cast<T&>(*this).*part.view = it->second;
      ++used;
    }
    if (used != views.size()) refuse_unknown_part(views, where);
  }

 protected:
  EncodingOf() : Encoding(T::kName) {}

 private:
  const T& self() const { return static_cast<const T&>(*this); }
  [[noreturn]] static void refuse_unknown_part(const PartViews& views, const std::string& where) {
    for (const auto& [name, view] : views) {
      bool known = false;
      for (const NamedPart<T>& part : T::kParts) known = known || name == part.name;
      if (!known)
        throw Error(ErrorKind::unsupported,
                    "the codec " + std::string(T::kName) + " has no part '" + name + "'", where,
                    "a newer qwb may have written it");
    }
    throw Error(ErrorKind::failed, "a part appears twice", where);
  }
};

}  // namespace qwb
