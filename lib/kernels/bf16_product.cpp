#include "lib/kernels/bf16_product.h"

#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/parallel.h"
#include "lib/kernels/isa.h"
#include "lib/kernels/matmul.h"
#include "lib/kernels/one_thread.h"
#include "lib/kernels/simd.h"

namespace qwb {
namespace {

constexpr int64_t kTile = 256;
// A C of at most so many columns is cut into rows only: oneDNN's faster kernels want them without gaps. And
// into more of them: B is rearranged for every tile, which took 90 of 210 us for 256 rows and 576 x 576.
constexpr int64_t kWhole = 2048;
constexpr int64_t kWholeRows = 512;
constexpr int64_t kMostPrimitives = 512;  // kept a thread: last tiles of every matrix of a model

// A primitive of oneDNN with its memory objects. Making one costs as much as running it, so each thread keeps
// those it used.
class Primitive {
 public:
  explicit Primitive(const Bf16Product& s) {
    using dnnl::memory;
    using Dims = memory::dims;
    const memory::desc a({s.m, s.k}, memory::data_type::bf16,
                         s.a_transposed ? Dims{1, s.stride_a} : Dims{s.stride_a, 1});
    const memory::desc b({s.k, s.n}, memory::data_type::bf16,
                         s.transposed ? Dims{1, s.stride_b} : Dims{s.stride_b, 1});
    const memory::desc c({s.m, s.n}, memory::data_type::f32, {s.stride_c, 1});
    dnnl::primitive_attr attributes;
    if (s.add) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc description = describe(a, b, c, attributes);
    product_ = dnnl::matmul(description);
    a_ = memory(a, engine(), nullptr);
    b_ = memory(b, engine(), nullptr);
    c_ = memory(c, engine(), nullptr);
  }

  void run(const uint16_t* a, const uint16_t* b, float* c) {
    static thread_local dnnl::stream stream(engine());
    a_.set_data_handle(const_cast<uint16_t*>(a));
    b_.set_data_handle(const_cast<uint16_t*>(b));
    c_.set_data_handle(c);
    product_.execute(stream, {{DNNL_ARG_SRC, a_}, {DNNL_ARG_WEIGHTS, b_}, {DNNL_ARG_DST, c_}});
    stream.wait();
  }

  static const dnnl::engine& engine() {
    static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
    return cpu;
  }

 private:
  // oneDNN 2 (Debian 12) and 3 (Ubuntu 24.04) differ here.
  static dnnl::matmul::primitive_desc describe(const dnnl::memory::desc& a, const dnnl::memory::desc& b,
                                               const dnnl::memory::desc& c,
                                               const dnnl::primitive_attr& attributes) {
#if DNNL_VERSION_MAJOR >= 3
    return {engine(), a, b, c, attributes};
#else
    return {dnnl::matmul::desc(a, b, c), attributes, engine()};
#endif
  }

  dnnl::matmul product_;
  dnnl::memory a_, b_, c_;
};

void by_matrix_units(const Bf16Product& shape, const uint16_t* a, const uint16_t* b, float* c) {
  static thread_local std::map<Bf16Product, Primitive> kept;
  const OneThread guard;
  try {
    auto found = kept.find(shape);
    if (found == kept.end()) {
      if (static_cast<int64_t>(kept.size()) >= kMostPrimitives) kept.clear();
      found = kept.emplace(shape, Primitive(shape)).first;
    }
    found->second.run(a, b, c);
  } catch (const dnnl::error& error) {
    throw Error(ErrorKind::failed, std::string("a bf16 matrix product failed: ") + error.what());
  }
}

// Rows of bf16 as f32, without gaps.
std::vector<float> widen(const uint16_t* values, int64_t rows, int64_t columns, int64_t stride) {
  std::vector<float> wide(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r) {
    simd::from_bf16(reinterpret_cast<const std::byte*>(values + r * stride), columns,
                    wide.data() + r * columns);
  }
  return wide;
}

void by_f32(const Bf16Product& s, const uint16_t* a, const uint16_t* b, float* c) {
  const int64_t columns_a = s.a_transposed ? s.m : s.k, columns_b = s.transposed ? s.k : s.n;
  const auto wide_a = widen(a, s.a_transposed ? s.k : s.m, columns_a, s.stride_a);
  const auto wide_b = widen(b, s.transposed ? s.n : s.k, columns_b, s.stride_b);
  sgemm(s.a_transposed, s.transposed, {s.m, s.n, s.k}, 1, wide_a.data(), columns_a, wide_b.data(), columns_b,
        s.add ? 1.0f : 0.0f, c, s.stride_c);
}

}  // namespace

bool has_bf16_units() {
  static const bool has = [] {
    const auto isa = dnnl::get_effective_cpu_isa();
    return isa == dnnl::cpu_isa::avx512_core_amx && isa_name() == available_isas().front();
  }();
  return has;
}

void bf16_product_tile(const Bf16Product& shape, const uint16_t* a, const uint16_t* b, float* c) {
  if (has_bf16_units()) {
    by_matrix_units(shape, a, b, c);
  } else {
    by_f32(shape, a, b, c);
  }
}

void bf16_product(const Bf16Product& shape, const uint16_t* a, const uint16_t* b, float* c) {
  const bool whole = shape.n <= kWhole;
  const int64_t high = whole ? kWholeRows : kTile, wide = whole ? shape.n : kTile;
  const int64_t columns = ceil_div(shape.n, wide);
  parallel_for(ceil_div(shape.m, high) * columns, [&](int64_t tile) {
    const int64_t i = tile / columns * high, j = tile % columns * wide;
    Bf16Product part = shape;
    part.m = std::min(high, shape.m - i);
    part.n = std::min(wide, shape.n - j);
    bf16_product_tile(part, a + (shape.a_transposed ? i : i * shape.stride_a),
                      b + (shape.transposed ? j * shape.stride_b : j), c + i * shape.stride_c + j);
  });
}

void to_bf16(const float* values, int64_t count, uint16_t* out) {
  constexpr int64_t kGrain = 1 << 16;
  parallel_ranges(count, kGrain, [&](int64_t begin, int64_t end) {
    simd::to_bf16(values + begin, end - begin, reinterpret_cast<std::byte*>(out + begin));
  });
}

}  // namespace qwb
