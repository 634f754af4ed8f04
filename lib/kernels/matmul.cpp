#include "lib/kernels/matmul.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/parallel.h"

namespace qwb {
namespace {

// 256 x 256 reaches the library's full rate (measured: 72-90 GFLOP/s a core on Zen 3 for k from 256 to 4096)
// and still gives two threads something to share in the smallest models.
constexpr int64_t kTokenTile = 256;
constexpr int64_t kChannelTile = 256;

// oneDNN parallelises by itself unless it runs inside a parallel region; its split would change the order of
// sums.
class OneThread {
 public:
  OneThread() : saved_(omp_in_parallel() != 0 ? 0 : omp_get_max_threads()) {
    if (saved_ > 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (saved_ > 1) omp_set_num_threads(saved_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int saved_;
};

}  // namespace

void matmul_tile(bool transposed, int64_t m, int64_t n, int64_t k, const float* a, int64_t stride_a,
                 const float* b, int64_t stride_b, float* c, int64_t stride_c, bool add, float alpha) {
  const OneThread guard;
  const dnnl_status_t status = dnnl_sgemm('N', transposed ? 'T' : 'N', m, n, k, alpha, a, stride_a, b,
                                          stride_b, add ? 1.0f : 0.0f, c, stride_c);
  if (status != dnnl_success)
    throw Error(ErrorKind::failed, "matrix product failed with status " + std::to_string(status));
}

void matmul(bool transposed, int64_t m, int64_t n, int64_t k, const float* a, int64_t stride_a,
            const float* b, int64_t stride_b, float* c, int64_t stride_c, bool add) {
  const int64_t rows = ceil_div(m, kTokenTile);
  const int64_t columns = ceil_div(n, kChannelTile);
  parallel_for(rows * columns, [&](int64_t tile) {
    const int64_t i = tile / columns * kTokenTile;
    const int64_t j = tile % columns * kChannelTile;
    matmul_tile(transposed, std::min(kTokenTile, m - i), std::min(kChannelTile, n - j), k, a + i * stride_a,
                stride_a, b + (transposed ? j * stride_b : j), stride_b, c + i * stride_c + j, stride_c, add);
  });
}

void add_moments(const float* x, int64_t rows, int64_t n, float* h) {
  constexpr int64_t kTile = 192;
  const int64_t tiles = ceil_div(n, kTile);
  std::vector<std::pair<int64_t, int64_t>> upper;
  for (int64_t i = 0; i < tiles; ++i) {
    for (int64_t j = i; j < tiles; ++j) upper.emplace_back(i * kTile, j * kTile);
  }
  parallel_for(static_cast<int64_t>(upper.size()), [&](int64_t index) {
    const auto [i, j] = upper[static_cast<size_t>(index)];
    const int64_t height = std::min(kTile, n - i);
    const int64_t width = std::min(kTile, n - j);
    const OneThread guard;
    const dnnl_status_t status =
        dnnl_sgemm('T', 'N', height, width, rows, 1.0f, x + i, n, x + j, n, 1.0f, h + i * n + j, n);
    if (status != dnnl_success)
      throw Error(ErrorKind::failed, "matrix product failed with status " + std::to_string(status));
    // Also inside the tiles on the diagonal: the library may round the two triangles differently.
    for (int64_t r = 0; r < height; ++r) {
      for (int64_t c = i == j ? r + 1 : 0; c < width; ++c) h[(j + c) * n + i + r] = h[(i + r) * n + j + c];
    }
  });
}

}  // namespace qwb
