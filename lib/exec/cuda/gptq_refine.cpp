// Coordinate descent over finished codes (lib/exec/cpu/gptq_refine.h) on a GPU.
#include <algorithm>

#include "lib/exec/cuda/gptq_work.h"

namespace qwb {

// Passes over all columns, all rows at a time.
struct GptqWork::Sweep {
  explicit Sweep(const GptqWork& work)
      : w(work),
        n(work.n_),
        rows(work.rows_),
        diagonal(work.task_.factor.diagonal.data),
        gradient(work.executor_.allocate(rows, kFactorBlock, MemoryKind::scratch)),
        product(work.executor_.allocate(rows, kFactorBlock, MemoryKind::scratch)),
        slope(work.executor_, rows),
        curvature(work.executor_, rows),
        changed(work.executor_, 1) {}

  // out [rows, 128] = in[:, from:to] H[from:to, block]. The lower triangle of H stands below the
  // factor, the diagonal blocks stand by themselves; what lies above is read as it lies below.
  void multiply(int64_t block, int64_t from, int64_t to, In in, Out out) const {
    const int64_t begin = block * kFactorBlock, length = std::min(kFactorBlock, n - begin),
                  end = begin + length;
    const In h = w.task_.factor.upper, own = w.task_.factor.diagonal;
    const int64_t left = std::min(begin, to), right = std::max(end, from);
    const int64_t inside_from = std::max(begin, from), inside_to = std::min(end, to);
    const Out made = out.column_range(0, length);
    w.executor_.fill(out, 0);
    if (left > from)
      cuda_multiply(w.executor_, in.column_range(from, left - from),
                    h.row_range(begin, length).column_range(from, left - from), made,
                    {.add = true});
    if (inside_to > inside_from)
      cuda_multiply(
          w.executor_, in.column_range(inside_from, inside_to - inside_from),
          own.row_range(begin, length).column_range(inside_from - begin, inside_to - inside_from),
          made, {.add = true});
    if (to > right)
      cuda_multiply(w.executor_, in.column_range(right, to - right),
                    h.row_range(right, to - right).column_range(begin, length), made,
                    {.down = true, .add = true});
  }

  void descend(int64_t block) const {
    multiply(block, 0, n, w.difference_, gradient);
    w.run(w.calls().descend, w.work_, block, static_cast<const float*>(diagonal), data(gradient),
          changed.data());
  }

  // With codes c (zero point taken off) and Q = s c: the error is least at
  // s + c H (W' - Q) / c H c.
  void refit(int64_t begin, int64_t end) {
    const int64_t first = begin / kFactorBlock, last = (end - 1) / kFactorBlock;
    if (first == last) {
      w.run(w.calls().refit_inside, w.work_, cuda::GroupColumns{first, begin, end},
            static_cast<const float*>(diagonal), data(gradient), changed.data());
      return;
    }
    if (steps.rows() == 0) steps = w.matrix();
    slope.clear(), curvature.clear();
    const cuda::Parabolas sums = {slope.data(), curvature.data()};
    w.run(w.calls().group_steps, w.work_, begin, end, data(steps));
    for (int64_t block = first; block <= last; ++block) {
      multiply(block, begin, end, steps, product);
      multiply(block, 0, n, w.difference_, gradient);
      const cuda::GroupColumns columns = {block, std::max(begin, block * kFactorBlock),
                                          std::min(end, (block + 1) * kFactorBlock)};
      w.run(w.calls().add_slopes, w.work_, static_cast<const float*>(data(steps)), columns,
            static_cast<const float*>(data(gradient)), static_cast<const float*>(data(product)),
            sums);
    }
    w.run(w.calls().move_scales, w.work_, static_cast<const float*>(data(steps)), begin, end, sums,
          changed.data());
    multiply(last, 0, n, w.difference_, gradient);
  }

  // True if anything changed.
  bool run() {
    changed.clear();
    int64_t group_begin = 0;
    for (int64_t block = 0; block < ceil_div(n, kFactorBlock); ++block) {
      w.task_.stop.check();
      descend(block);
      const int64_t end = std::min(n, (block + 1) * kFactorBlock);
      // The groups that end in this block.
      for (int64_t p = std::max(group_begin + 1, block * kFactorBlock);
           !w.task_.static_groups && p <= end; ++p) {
        if (p < n && w.of_.groups[p] == w.of_.groups[group_begin]) continue;
        refit(group_begin, p);
        group_begin = p;
        if (p == n) break;
      }
    }
    return changed.download().front() != 0;
  }

  static float* data(const Matrix& matrix) { return matrix.view().data; }

  const GptqWork& w;
  int64_t n, rows;
  const float* diagonal;
  Matrix gradient, product, steps;
  OnGpu<double> slope, curvature;
  OnGpu<int> changed;
};

void GptqWork::refine() {
  Sweep sweep(*this);
  for (int k = 0; k < task_.sweeps; ++k) {
    if (!sweep.run()) break;
  }
}

}  // namespace qwb
