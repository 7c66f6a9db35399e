#include "planner/plan.h"

#include <algorithm>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "planner/gemm.h"
#include "planner/integers.h"
#include "planner/polyphase.h"
#include "planner/scalar.h"

namespace mps_conv_transpose3d {
namespace {

// The most multiply-adds of one dispatch. A direct kernel reaches about 0.4 % of an M1's 1.3 T/s, so 2^29 are some 0.1
// s: macOS kills a command buffer that keeps the display's GPU for seconds. A depthwise kernel is some 10 times as
// fast, a matrix kernel 100 times.
int64_t max_work_of(Family family) {
  switch (family) {
    case Family::direct:
      return int64_t{1} << 29;
    case Family::depthwise:
      return int64_t{1} << 32;
    default:
      return int64_t{1} << 36;
  }
}

// An algorithm, and how it cuts the pass if it is a tiled product.
struct Choice {
  const Algorithm* algorithm;
  std::optional<GemmTiling> tiling;
};

Choice with_tiling(const Algorithm& algorithm, Pass pass, const KernelParams& p, const Gpu& gpu) {
  return {&algorithm,
          algorithm.is_tiled_product() ? std::optional(choose_gemm_tiling(pass, algorithm, p, gpu)) : std::nullopt};
}

// Whether the algorithm is one to choose: matrix products only where they are wide.
bool suits(const Algorithm& algorithm, Pass pass, const KernelParams& p) {
  const bool is_matrix_product = algorithm.is_tiled_product() || algorithm.family == Family::polyphase;
  return can(algorithm, pass, p) && (!is_matrix_product || is_wide(pass, algorithm.family, p));
}

// The fastest tiled product, else the first in the table.
Choice choose(Pass pass, const KernelParams& p, const Gpu& gpu) {
  std::optional<Choice> best;
  for (const Algorithm& algorithm : kAlgorithms) {
    if (!suits(algorithm, pass, p) || (best && !algorithm.is_tiled_product())) {
      continue;
    }
    const Choice choice = with_tiling(algorithm, pass, p, gpu);
    if (!best || choice.tiling->cycles < best->tiling->cycles) {
      best = choice;
    }
  }
  return *best;  // the last in the table computes everything
}

std::array<Binding, kMaxBindings> bindings_of(const Kernel& kernel) {
  if (kernel.reduction != Reduction::none) {
    return {{{kPartialSumsBuffer, Operand::partial_sums},
             {kBiasBuffer, Operand::bias},
             {kWeightBuffer, kernel.pass == Pass::bias_grad ? Operand::none : Operand::weight}}};
  }
  switch (kernel.pass) {
    case Pass::forward:
      return {{{kInputBuffer, Operand::input},
               {kWeightBuffer, Operand::weight},
               {kOutputBuffer, Operand::output},
               {kBiasBuffer, Operand::bias}}};
    case Pass::input_grad:
      return {{{kInputBuffer, Operand::input}, {kWeightBuffer, Operand::weight}, {kOutputBuffer, Operand::output}}};
    default:
      return {{{kInputBuffer, Operand::input},
               {kWeightBuffer, Operand::weight},
               {kOutputBuffer, Operand::output},
               {kPartialSumsBuffer, Operand::partial_sums}}};
  }
}

Dispatch make_dispatch(const Kernel& kernel, const Grid& grid, int64_t max_work) {
  const auto narrow = [](int64_t n) {
    if (n > std::numeric_limits<uint32_t>::max()) {
      throw std::length_error("a grid of more than 32 bits");  // make_params() lets none come to this
    }
    return static_cast<uint32_t>(n);
  };
  const int64_t z = std::clamp(max_work / std::max<int64_t>(grid.work_per_z, 1), int64_t{1}, grid.threads[2]);
  Dispatch dispatch{};
  dispatch.kernel = kernel;
  dispatch.threads = {narrow(grid.threads[0]), narrow(grid.threads[1]), narrow(grid.threads[2])};
  dispatch.threads_per_threadgroup = grid.threads_per_threadgroup;
  dispatch.z_per_dispatch = narrow(z);
  dispatch.bindings = bindings_of(kernel);
  return dispatch;
}

// What all plans of a call's pass have in common.
struct Call {
  Pass pass;
  DataType dtype;
  const KernelParams& params;
  const Gpu& gpu;
  bool wants_bias_grad;

  Kernel kernel(const Algorithm& algorithm) const { return {pass, dtype, &algorithm, Reduction::none}; }
  Kernel kernel(Reduction reduction) const { return {pass, dtype, nullptr, reduction}; }
};

Plan plan_scalar(const Call& call, const Algorithm& algorithm) {
  const KernelParams& p = call.params;
  const Family family = algorithm.family;
  const int64_t max_work = max_work_of(family);
  Plan plan;
  std::optional<SplitK> parts;
  if (algorithm.is_sum_of_parts(call.pass)) {
    parts = choose_parts(call.pass, family, p, max_work, call.gpu);
  }
  const int64_t count = parts ? parts->splits : 0;
  const Grid grid = family == Family::direct ? direct_grid(call.pass, p, count) : depthwise_grid(call.pass, p, count);
  plan.dispatches[0] = make_dispatch(call.kernel(algorithm), grid, max_work);
  plan.dispatches[0]->split_k = parts;
  if (parts) {
    plan.has_bias_grad =
        call.pass == Pass::weight_grad && family == Family::depthwise && call.wants_bias_grad && covers_output(p);
    const int64_t outputs = int64_t{p.groups} * p.out_channels;
    const int64_t elements = (call.pass == Pass::weight_grad ? outputs * p.in_channels * taps_of(p) : 0) +
                             (call.pass == Pass::bias_grad || plan.has_bias_grad ? outputs : 0);
    plan.partial_sums = count * elements;
    plan.dispatches[1] =
        make_dispatch(call.kernel(Reduction::parts), reduce_parts_grid(elements, count), max_work_of(Family::gradient));
    plan.dispatches[1]->split_k = parts;
  }
  return plan;
}

Plan plan_polyphase(const Call& call, const Algorithm& algorithm) {
  Plan plan;
  const PolyphaseTile tile = choose_polyphase_tile(call.params, call.gpu);
  plan.dispatches[0] =
      make_dispatch(call.kernel(algorithm), polyphase_grid(call.params, tile), max_work_of(algorithm.family));
  plan.dispatches[0]->polyphase_tile = tile;
  return plan;
}

Plan plan_tiled_product(const Call& call, const Algorithm& algorithm, const GemmTiling& tiling) {
  const KernelParams& p = call.params;
  const int64_t max_work = max_work_of(algorithm.family);
  Plan plan;
  plan.dispatches[0] = make_dispatch(call.kernel(algorithm), gemm_grid(call.pass, algorithm, p, tiling), max_work);
  plan.dispatches[0]->tile_rows = tiling.rows;
  if (call.pass == Pass::weight_grad) {
    plan.has_bias_grad = call.wants_bias_grad && some_taps_cover_output_once(p);
    const int64_t splits = tiling.split_k.splits, columns = int64_t{p.groups} * p.columns;
    plan.partial_sums =
        (splits > 1 ? splits * columns * p.in_channels : 0) + (plan.has_bias_grad ? 2 * splits * columns : 0);
    plan.dispatches[0]->split_k = tiling.split_k;
    if (plan.partial_sums > 0) {
      plan.dispatches[1] =
          make_dispatch(call.kernel(Reduction::k_splits),
                        reduce_k_splits_grid(p, tiling.split_k, plan.has_bias_grad, call.gpu), max_work);
      plan.dispatches[1]->split_k = tiling.split_k;
    }
  }
  return plan;
}

}  // namespace

Plan make_plan(Pass pass, DataType dtype, const KernelParams& p, const Gpu& gpu, const Algorithm* preferred,
               bool wants_bias_grad) {
  const bool takes_preferred = preferred && can(*preferred, pass, p);
  const Choice choice = takes_preferred ? with_tiling(*preferred, pass, p, gpu) : choose(pass, p, gpu);
  const Call call{pass, dtype, p, gpu, wants_bias_grad};
  if (choice.tiling) {
    return plan_tiled_product(call, *choice.algorithm, *choice.tiling);
  }
  return choice.algorithm->family == Family::polyphase ? plan_polyphase(call, *choice.algorithm)
                                                       : plan_scalar(call, *choice.algorithm);
}

std::string explain(const Plan& plan) {
  std::ostringstream text;
  for (const auto& dispatch : plan.dispatches) {
    if (!dispatch) {
      continue;
    }
    const auto &threads = dispatch->threads, &group = dispatch->threads_per_threadgroup;
    const uint32_t slices = (threads[2] + dispatch->z_per_dispatch - 1) / dispatch->z_per_dispatch;
    text << (dispatch->kernel.reduction == Reduction::none ? "" : "; then ") << dispatch->kernel.name() << ", grid "
         << threads[0] << " x " << threads[1] << " x " << threads[2] << " threads in groups of " << group[0] << " x "
         << group[1] << " x " << group[2] << ", " << slices << (slices == 1 ? " dispatch" : " dispatches");
  }
  if (plan.partial_sums > 0) {
    text << "; " << plan.dispatches[0]->split_k->splits << " partial sums, " << plan.partial_sums * sizeof(float)
         << " bytes";
  }
  return text.str();
}

}  // namespace mps_conv_transpose3d
