// Methods "nf4" and "fp4": 4-bit floats in blocks along the flattened stored tensor, whatever its
// orientation, byte for byte as bitsandbytes 0.50 makes them on the CPU from the f32 values
// (float_blocks.h).
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "lib/base/parallel.h"
#include "lib/codec/float_blocks.h"
#include "lib/quantize/encode/float_blocks.h"
#include "lib/quantize/encode/module_weight.h"
#include "lib/quantize/method.h"

namespace qwb {
namespace {

// Elements per parallel item: a multiple of every block size, and f32 that stay in the cache.
constexpr int64_t kPiece = 1 << 13;
using Piece = std::array<float, kPiece>;

class Float4 : public Method {
 public:
  explicit Float4(FloatBlocks::Table table) : table_(table) {}
  std::string name() const override { return table_ == FloatBlocks::Table::nf4 ? "nf4" : "fp4"; }
  std::string summary() const override {
    return table_ == FloatBlocks::Table::nf4
               ? "4-bit NormalFloat in blocks, as in QLoRA"
               : "4-bit floating point (E2M1) in blocks, as in bitsandbytes";
  }
  int version() const override { return 1; }
  std::vector<Parameter> parameters() const override {
    return {
        {.name = "block_size",
         .kind = Parameter::Kind::integer,
         .fallback = 64,
         .minimum = 16,
         .maximum = 4096,
         .help = "weights that share a scale, a power of two"},
        {.name = "double_quantization",
         .kind = Parameter::Kind::boolean,
         .fallback = true,
         .help = "store the block scales in 8 bits"},
    };
  }
  void check(const Settings& settings) const override {
    const int64_t size = json_int(settings, "block_size", name());
    if (size < 16 || size > 4096 || !std::has_single_bit(static_cast<uint64_t>(size))) {
      throw Error(ErrorKind::usage,
                  "block_size must be a power of two, not " + std::to_string(size),
                  "method " + name(), "64 is usual; 16 to 4096 are possible");
    }
  }
  double bits(const Settings& /*settings*/) const override { return 4; }
  WeightLayout layout(const ModuleInfo& module, const Settings& settings) const override {
    check(settings);
    return float_blocks_layout(
        {module.out, module.in, module.orientation},
        {table_, json_int(settings, "block_size", module.name),
         json_bool(settings, "double_quantization", module.name), kNestedBlock});
  }
  ModuleResult quantize(const ModuleTask& task, const Settings& settings) const override;

 private:
  void store_scales(QuantizedTensor& tensor, const NestedScales& nested) const;

  FloatBlocks::Table table_;
};

void Float4::store_scales(QuantizedTensor& tensor, const NestedScales& nested) const {
  std::memcpy(tensor.parts.at("absmax").bytes().data(), nested.codes.data(), nested.codes.size());
  std::memcpy(tensor.parts.at("nested_absmax").bytes().data(), nested.absmax.data(),
              nested.absmax.size() * sizeof(float));
  std::memcpy(tensor.parts.at("nested_map").bytes().data(), dynamic_map().data(),
              sizeof(dynamic_map()));
  FloatBlocks blocks = tensor.get<FloatBlocks>();
  blocks.nested_offset = nested.offset;
  tensor.set(std::move(blocks));
}

ModuleResult Float4::quantize(const ModuleTask& task, const Settings& settings) const {
  check_task(task);
  const int64_t block_size = json_int(settings, "block_size", task.info.name);
  const bool nest = json_bool(settings, "double_quantization", task.info.name);
  const int64_t count = task.weight.count();
  ModuleResult result;
  QuantizedTensor& tensor = result.tensor;
  tensor = QuantizedTensor(layout(task.info, settings));
  std::byte* codes = tensor.parts.at("codes").bytes().data();
  const int64_t blocks = ceil_div(count, block_size);
  std::vector<float> scales(static_cast<size_t>(blocks));
  const AlignedBuffer kept(blocks * static_cast<int64_t>(sizeof(PointSums)));
  auto* sums = reinterpret_cast<PointSums*>(kept.data());
  parallel_ranges(task.context, count, kPiece, [&](int64_t begin, int64_t end) {
    Piece values;
    read_finite(task, begin, end - begin, values.data());
    quantize_float_blocks(values.data(), end - begin, table_, block_size,
                          scales.data() + begin / block_size, codes + begin / 2,
                          sums + begin / block_size);
  });
  NestedScales nested;
  if (nest) {
    nested = quantize_scales(scales, task.context);
    store_scales(tensor, nested);
  } else {
    std::memcpy(tensor.parts.at("absmax").bytes().data(), scales.data(),
                scales.size() * sizeof(float));
  }
  // The stored scales are known last, and what the error needs of the values is in the sums.
  std::vector<ErrorSum> errors(static_cast<size_t>(ceil_div(blocks, kPiece)));
  parallel_ranges(task.context, blocks, kPiece, [&](int64_t begin, int64_t end) {
    ErrorSum sum;
    for (int64_t b = begin; b < end; ++b) {
      const auto at = static_cast<size_t>(b);
      const double scale = scales[at], less = nest ? scale - nested_scale(nested, at) : 0;
      sum.add(ErrorSum{sums[b].error_with(less, scale), sums[b].norm});
    }
    errors[begin / kPiece] = sum;
  });
  result.weight_error = relative_error(errors);
  return result;
}

}  // namespace

std::unique_ptr<Method> make_nf4() {
  return std::make_unique<Float4>(FloatBlocks::Table::nf4);
}
std::unique_ptr<Method> make_fp4() {
  return std::make_unique<Float4>(FloatBlocks::Table::fp4);
}

}  // namespace qwb
