// What calibration asks of a device besides a model's own operations: sums over the activations of
// many windows, and how the windows are kept between the blocks of a model.
//
// Operands that are views (In, Out) lie in the executor's memory, f32, row-major and dense; what is
// a pointer, a span or a vector lies in the host's. Operations may run side by side, on the
// executor's threads, and give the same bits for any number of them: the order of a sum follows
// from shapes alone.
//
// What is done to weights without a look at activations (rounding by rtn, int8, nf4, fp4 and
// ggml's types, decoding what was rounded) is no operation: it works on the host's memory, where
// weights lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lib/base/stop.h"
#include "lib/exec/grid.h"
#include "lib/tensor/error_sum.h"
#include "lib/tensor/matrix.h"

namespace qwb {

// Adds batches of inputs to second moments. Keeps the memory that it packs operands in for the next
// batch. One call at a time.
class MomentSums {
 public:
  virtual ~MomentSums() = default;
  // h [n, n] += x^T x on and above the diagonal, for x [rows, n]; below it h holds anything until
  // CalibrationOps::mirror(). Where there are aims [rows, m], cross [m, n] += aims^T x too.
  // Operands are rounded to bf16 where the executor's products are (Executor::products()); sums are
  // f32.
  virtual void add(In x, Out h, In aims = {}, Out cross = {}) = 0;
};

// Rows of activations as they are kept: in the host's memory (null) or in the executor's.
struct Halves {
  std::byte* values;
  float* scales;
  const Device* device = nullptr;
};

// What a device works on at a time. Inputs of a module that are held before they are added to the
// moments: long inner products, and enough windows for the threads to share. Rows of a weight that
// ScaleTrial takes.
struct CalibrationBatch {
  int64_t tokens = 3072, floats = int64_t{14} << 18;
  int64_t trial_rows = 128;
};

enum class Summands { values, magnitudes };

// Rows of a weight that are worked on together, and whose errors are one sum.
constexpr int64_t kRowLanes = 64;
constexpr int64_t kFactorBlock = 128;

// The upper Cholesky factor R of a positive definite matrix A: A = R R^T, found from the last
// column to the first. Its inverse U is the factor of GPTQ: A^-1 = U^T U. The solver needs only the
// diagonal blocks of U, so the full inverse is never made.
struct UpperFactor {
  Out upper;     // R [n, n]; below the diagonal blocks A is left as it was
  Out inverses;  // [blocks * 128, 128]: the inverses of R's diagonal blocks, zero below the
                 // diagonal and beyond n
  Out diagonal;  // [blocks * 128, 128]: A's diagonal blocks, zero beyond n
  int64_t size() const { return upper.rows; }
};

// How A is made of H.
struct Damping {
  std::span<const int64_t> order;  // order[position] = column
  double mean;                     // the diagonal of a column that is zero there; its row becomes 0
  double added;                    // to the diagonal
  double minimum_pivot;            // a smaller one is made of rounding errors
  const std::string& module;
  StopToken stop;
};

// GPTQ (Frantar et al. 2022, arXiv 2210.17323) on the rows of one module: what they share.
struct GptqTask {
  GridSettings grid;
  bool static_groups = false;  // the order mixes groups: their grids are chosen before any column
  // Each group's scale is chosen by its error weighted with the importance, among 61 factors of
  // the covered range (cpu/scale_search.h).
  bool scale_search = true;
  // [rows of the module, groups]: scales that are fixed, as where rows share them; empty: each
  // group's is chosen. Grids of floats alone.
  std::span<const float> scales = {};
  int sweeps = 0;                     // of coordinate descent afterwards (cpu/gptq_refine.h)
  std::span<const int64_t> order;     // of the columns: order[position] = column
  std::span<const float> importance;  // by position
  UpperFactor factor;                 // of the damped H in this order
  In hessian;                         // H undamped, columns as stored
  // Where the rows should go instead of W, so that the quantized module answers its own inputs x as
  // the original answered the original's x*: the least squares solution W + W D H^-1, or W + (Y - W
  // H) H^-1 where what the module should give is known itself; by this share of the way. Columns as
  // stored.
  In drift;   // D [columns, columns]; empty: none
  In wanted;  // Y [rows of the module, columns]; empty: none
  float strength = 0;
  // Where H, D and Y are about the means, for GptqRows::shift: those of x, and of x* - x or y.
  struct Means {
    std::span<const float> input, drift, wanted;
  } means = {};
  std::string module = {};
  StopToken stop = {};
};

// Some rows when they are done, columns as stored; in the host's memory.
struct GptqRows {
  int64_t first = 0, count = 0;
  std::vector<uint8_t> codes;  // [count, columns]
  std::vector<Grid> grids;     // [count, groups]
  std::vector<float> shift;  // [count]: the mean of W x* - Q x, or of y - Q x; empty without means
  // Sums over the rows in f64: of the weights; of the output on the calibration inputs against its
  // aim, x H x^T, for the result and for plain rounding. A row that rounding serves better is
  // rounded.
  ErrorSum weights = {}, outputs = {}, rounding = {};
  int64_t rounded_rows = 0;
};
using GptqDone = std::function<void(const GptqRows&)>;

// AWQ's rounding of the rows of one module: each group's range shrinks so that the output error d H
// d^T, d = w - Q, gets small (cpu/clip_rows.h).
struct ClipTask {
  GridSettings grid;
  int64_t fixed = 0;  // the first rows keep their ranges
  int passes = 0;
  In hessian;
  std::string module = {};
  StopToken stop = {};
};
struct ClippedRows {
  int64_t first = 0, count = 0;
  std::vector<uint8_t> codes;           // [count, columns]
  std::vector<Grid> grids;              // [count, groups]
  ErrorSum weights = {}, outputs = {};  // as in GptqRows
  int64_t clipped = 0;                  // groups whose range was changed
};
using ClipDone = std::function<void(const ClippedRows&)>;

// A few rows of a weight as they would be rounded with their columns scaled.
struct ScaleTrial {
  std::span<const float> weight;  // w [rows, columns]
  std::span<const float> scales;  // s by column; empty: all ones
  GridSettings grid;
  int64_t fixed = 0;  // as in ClipTask
  In hessian;         // of x; for clipped_errors of x / s
  const std::string& module;
};

class CalibrationOps {
 public:
  virtual ~CalibrationOps() = default;

  // Rows of activations as they are kept: [rows, columns] f16 after division by a power of two for
  // each row, [rows], that brings its largest magnitude below 2^15, so that no row overflows and
  // every value keeps 11 significant bits. Few rows: a window or a piece of one.
  virtual void to_halves(In x, Halves halves) const = 0;
  virtual void from_halves(Halves halves, Out x) const = 0;
  // Whether so many bytes of them may lie in the executor's own memory, where that is not the
  // host's. Where they lie changes no bit.
  virtual bool holds(int64_t /*bytes*/) const { return false; }

  virtual CalibrationBatch batch() const { return {}; }

  // x -= y, of equal size
  virtual void subtract(Out x, In y) const = 0;
  // Every row of x [rows, columns] -= row [1, columns].
  virtual void subtract_row(Out x, In row) const = 0;
  // x[i] = x[rows[i]], rows ascending: some rows of x move to its beginning.
  virtual void compact(std::span<const int64_t> rows, Out x) const = 0;

  virtual std::unique_ptr<MomentSums> moment_sums() const = 0;
  // h [n, n]: what is below the diagonal becomes what is above.
  virtual void mirror(Out h) const = 0;
  // sums[c] += x[r, c] or |x[r, c]|, r ascending, in f64.
  virtual void add_columns(In x, Summands summands, std::span<double> sums) const = 0;
  // m [rows, columns] -= left right^T / tokens, in f64, for sums over the tokens: what is left are
  // the moments about the means.
  virtual void take_out_means(Out m, std::span<const double> left, std::span<const double> right,
                              int64_t tokens) const = 0;
  // The diagonal of h [n, n]; and makes what is below zero there zero.
  virtual std::vector<float> diagonal(In h) const = 0;
  virtual void clear_negative_diagonal(Out h) const = 0;
  // scaled[i, j] = h[i, j] / (scales[i] scales[j])
  virtual void scale_moments(In h, std::span<const float> scales, Out scaled) const = 0;
  // x H x^T of every row of x [rows, n], with H symmetric; products in f32, sums over them in f64.
  // At most a few hundred rows.
  virtual std::vector<double> quadratic_forms(std::span<const float> x, In h) const = 0;

  // False, with the contents undefined, if a pivot is not above the least one (NaN included).
  // Throws failed, naming the module, on NaN or Inf in h. Diagonal blocks are factorized and
  // inverted in f64; n^3 / 3 multiply-adds.
  virtual bool factorize(In h, const Damping& damping, const UpperFactor& factor) const = 0;
  // weight [rows, columns] f32. Calls done(), side by side, for every 64 rows of it, which are
  // solved by themselves. Throws failed, naming the module, if a scale does not fit its type;
  // interrupted.
  virtual void gptq_rows(const GptqTask& task, std::span<const float> weight,
                         const GptqDone& done) const = 0;
  virtual void clip_rows(const ClipTask& task, std::span<const float> weight,
                         const ClipDone& done) const = 0;
  // By row: d H d^T with d = w - Q(w s) / s, every range covering its group; and as ClipTask does
  // it in one pass. At most CalibrationBatch::trial_rows.
  virtual std::vector<double> rounded_errors(const ScaleTrial& trial) const = 0;
  virtual std::vector<double> clipped_errors(const ScaleTrial& trial) const = 0;
};

}  // namespace qwb
