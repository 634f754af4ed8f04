// The weight matrix of a linear module as it is stored. Views: the bytes belong to a file or to a
// QuantizedTensor.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "lib/codec/encoding.h"

namespace qwb {

// How a weight is stored, without its bytes: enough to lay out files.
struct WeightLayout : WeightShape {
  std::shared_ptr<const Encoding> encoding;

  WeightLayout() = default;
  template <class T, class = std::enable_if_t<std::is_base_of_v<Encoding, T>>>
  WeightLayout(const WeightShape& shape, T form)
      : WeightShape(shape), encoding(std::make_shared<const T>(std::move(form))) {}
  WeightLayout(const WeightShape& shape, std::shared_ptr<const Encoding> form)
      : WeightShape(shape), encoding(std::move(form)) {}

  // The encoding if it is of this codec, else null; throws usage instead of null.
  template <class T>
  const T* as() const {
    return encoding && encoding->kind_ == T::kName ? static_cast<const T*>(encoding.get())
                                                   : nullptr;
  }
  template <class T>
  const T& get() const {
    const T* found = as<T>();
    if (found == nullptr) not_stored_as(T::kName);
    return *found;
  }
  template <class T, class = std::enable_if_t<std::is_base_of_v<Encoding, T>>>
  void set(T form) {
    encoding = std::make_shared<const T>(std::move(form));
  }

  bool is_dense() const;
  std::string codec() const { return encoding ? encoding->codec() : std::string(); }
  int code_bits() const { return encoding->code_bits(); }
  // Types and shapes of all parts, codes first.
  std::vector<PartSpec> specs() const;
  bool has(const std::string& part) const;
  PartSpec spec(const std::string& part) const;  // throws usage if there is none
  int64_t bytes() const;                         // of all parts

 private:
  [[noreturn]] void not_stored_as(const char* wanted) const;
};

// A layout whose parts have their bytes, checked (check_weight).
struct Weight : WeightLayout {
  Weight() = default;
  template <class T, class = std::enable_if_t<std::is_base_of_v<Encoding, T>>>
  Weight(int64_t outputs, int64_t inputs, Orientation order, T form)
      : WeightLayout({outputs, inputs, order}, std::move(form)) {}
  explicit Weight(WeightLayout layout) : WeightLayout(std::move(layout)) {}

  // The parts by name.
  PartViews parts() const;
};

// The same without bytes.
WeightLayout layout_of(const Weight& weight);

// Throws `failed` or unsupported, naming `where`, if the parts are not exactly what the codec asks
// for. Every loader calls it before the weight is used; kernels rely on it.
void check_weight(const Weight& weight, const std::string& where);

// The weight whose parts lie there, checked.
Weight attach(const WeightLayout& layout, const PartViews& parts, const std::string& where);

// A quantized weight that owns its parts: what a method returns and a writer stores.
struct QuantizedTensor : WeightLayout {
  std::map<std::string, Tensor> parts;

  QuantizedTensor() = default;
  // With all parts of that layout, uninitialised.
  explicit QuantizedTensor(const WeightLayout& layout);
  // Views into the parts; as a weight, checked.
  PartViews part_views() const;
  Weight view() const;
};

}  // namespace qwb
