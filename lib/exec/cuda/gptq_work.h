// GPTQ on rows of a module in a GPU's memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/exec/cuda/calibration.h"

namespace qwb {

// What is known of the columns, by position of the order, here and there.
struct GptqColumns {
  GptqColumns(const CudaExecutor& executor, const GptqTask& task);
  std::vector<int32_t> groups;   // of positions
  std::vector<int32_t> inverse;  // the position of a column
  OnGpu<int32_t> order_there, inverse_there, groups_there;
  OnGpu<float> importance;

 private:
  static std::vector<int32_t> inverse_of(std::span<const int64_t> order);
  static std::vector<int32_t> groups_of(const GptqTask& task);
};

class GptqWork {
 public:
  // weight: rows [first, ...) of the module.
  GptqWork(const CudaExecutor& executor, const GptqTask& task, const GptqColumns& columns,
           std::span<const float> weight, int64_t first);
  void solve();
  // After that; then rows [begin, end) of these can be asked for, from any thread.
  void judge();
  GptqRows rows(int64_t begin, int64_t end) const;

 private:
  bool follows() const { return !task_.drift.empty() || !task_.wanted.empty(); }
  bool starts_group(int64_t position) const {
    return !task_.static_groups &&
           (position == 0 || of_.groups[position] != of_.groups[position - 1]);
  }
  int64_t group_end(int64_t position) const;
  Matrix matrix() const;
  void to_positions(In stored, Out by_position) const;
  void set_aim();
  void fix_all_grids();
  void set_target(int64_t block);
  void start_group(int64_t position, int64_t block_end);
  void solve_block(int64_t block);
  double form(int kind, int64_t row) const;
  void sum_rows(In aim);

  // gptq_refine.cpp
  struct Sweep;
  void refine();

  const cuda::CalibrationFunctions& calls() const { return *executor_.functions().calibration; }
  template <class Call, class... Operands>
  void run(Call call, const Operands&... operands) const {
    executor_.run("gptq", call, operands...);
  }

  const CudaExecutor& executor_;
  const GptqTask& task_;
  const GptqColumns& of_;
  int64_t n_, rows_, first_, group_count_;
  Matrix weight_;                     // columns as stored
  Matrix aim_, target_, difference_;  // by position
  Matrix carried_;
  OnGpu<unsigned char> codes_;
  OnGpu<float> scale_, zero_;
  OnGpu<uint32_t> overflow_;
  cuda::RowsAtWork work_ = {};
  std::vector<double> forms_;  // of the result, of plain rounding, of the aim
  std::vector<double> sums_;
  std::vector<unsigned char> marks_, host_codes_;
  std::vector<float> host_scale_, host_zero_;
};

}  // namespace qwb
