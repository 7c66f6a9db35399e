#include "plan.h"

#include <algorithm>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "gemm_grid.h"
#include "integers.h"
#include "phase_tile.h"
#include "scalar_grid.h"

namespace mps_conv_transpose3d {
namespace {

// Multiply-adds of one dispatch. One thread per output reaches about 0.4 % of an M1's 1.3 T/s, so this is some 0.1 s:
// macOS kills a command buffer that keeps the display's GPU for seconds.
constexpr int64_t kMaxDirectWork = int64_t{1} << 29;
// A depthwise kernel is some 10 times as fast, a matrix kernel 100 times.
constexpr int64_t kMaxDepthwiseWork = int64_t{1} << 32;
constexpr int64_t kMaxGemmWork = int64_t{1} << 36;

// Kernel 3, stride 2, padding 1.
bool is_k3s2(const KernelParams& p) {
  const auto is = [](const Axis& axis) {
    return axis.taps == 3 && axis.stride == 2 && axis.padding == 1 && axis.dilation == 1;
  };
  return is(p.depth) && is(p.height) && is(p.width);
}

// Whether the matrix kernels' offsets, within one sample and group, fit 32 bits.
bool offsets_fit(int64_t channels, const std::array<int64_t, 3>& spatial, const Strides& s) {
  return fits((channels - 1) * s.channel + (spatial[0] - 1) * s.depth + (spatial[1] - 1) * s.height +
              (spatial[2] - 1) * s.width);
}

// And those of the largest coordinates that are computed for what lies outside of the tensors, where a thread goes up
// to `run` positions beyond them.
bool offsets_fit(int64_t in_channels, int64_t out_channels, int64_t run, const KernelParams& p) {
  const auto reach = [&](const Axis& axis) {
    return int64_t{axis.output} + axis.taps * axis.dilation + axis.padding + run * axis.stride;
  };
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  return offsets_fit(in_channels, {d.input + reach(d), h.input + reach(h), w.input + reach(w)}, p.input) &&
         offsets_fit(out_channels, {2 * reach(d), 2 * reach(h), 2 * reach(w)}, p.output);
}

// Kernels of 3x3x3; the forward pass's know where a stride of 2 and an odd padding put each tap.
bool depthwise_can(Pass pass, const KernelParams& p) {
  const auto can = [&](const Axis& axis) {
    const bool doubles = axis.stride == 2 && axis.padding % 2 == 1 && axis.dilation == 1;
    return axis.taps == 3 && (pass != Pass::forward || doubles);
  };
  return pass != Pass::bias_grad && can(p.depth) && can(p.height) && can(p.width) &&
         offsets_fit(1, 1, kDepthwiseRun, p);
}

bool can(Pass pass, Method method, const KernelParams& p) {
  switch (method) {
    case Method::direct:
      return true;
    case Method::depthwise:
      return depthwise_can(pass, p);
    case Method::sum_parts:
    case Method::sum_splits:
      return false;
    default:
      break;
  }
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  const Product product = product_of(pass, method, p);
  if (pass == Pass::bias_grad || !fits(product.rows + 128) || !fits(product.columns + 128) ||
      !offsets_fit(p.in_channels, p.out_channels, 0, p)) {
    return false;
  }
  // Without running totals a sum is as exact as PyTorch's on the CPU, which sums the channels of each tap apart, only
  // where it is no longer than this.
  constexpr int64_t kMaxPlainSum = 512;
  if (is_tiled(method)) {
    return pass == Pass::forward && is_non_overlapping(p) &&
           (method != Method::tiled_gemm_bm64_bn128 || p.in_channels <= kMaxPlainSum);
  }
  // The sets of taps (forward: of shifts) of the three axes together fit the bits of one word, as they do for a kernel
  // of 10 x 10 x 10.
  const int64_t bits =
      pass == Pass::forward ? int64_t{d.shifts} + h.shifts + w.shifts : int64_t{d.taps} + h.taps + w.taps;
  return bits <= kMaxTapBits && is_polyphase(method) == (pass == Pass::forward) &&
         (method != Method::polyphase_gemm_k3s2 || is_k3s2(p));
}

// Whether the product is wide enough for matrices: narrower ones leave most of a tile idle. The columns of the forward
// pass by phases are 8 output channels wide.
bool is_wide(Pass pass, Method method, const KernelParams& p) {
  const Product product = product_of(pass, method, p);
  return p.in_channels >= 8 && product.columns >= 16 && product.depth >= 8 &&
         (pass != Pass::forward || product.rows >= 16) &&
         (pass != Pass::forward || is_tiled(method) || p.out_channels >= 6);
}

bool is_scalar(Method method) { return method == Method::direct || method == Method::depthwise; }

// A method, and how it cuts the pass if it is a matrix product that is not by phases.
struct Choice {
  Method method;
  Tiling tiling;
};

Choice choose_method(Pass pass, const KernelParams& p, const Device& device) {
  const auto suits = [&](Method method) { return can(pass, method, p) && is_wide(pass, method, p); };
  Choice best{depthwise_can(pass, p) ? Method::depthwise : Method::direct, {}};
  for (size_t i = 0; i < kMethods; ++i) {
    const auto method = static_cast<Method>(i);
    if (is_scalar(method) || is_polyphase(method) || !suits(method)) {
      continue;
    }
    const Tiling tiling = choose_tiling(pass, method, p, device);
    if (is_scalar(best.method) || tiling.time < best.tiling.time) {
      best = {method, tiling};
    }
  }
  // Any forward pass, and so the second choice.
  if (is_scalar(best.method)) {
    for (const Method method : {Method::polyphase_gemm, Method::polyphase_gemm_k3s2}) {
      best.method = suits(method) ? method : best.method;
    }
  }
  return best;
}

Choice as_forced(Pass pass, Method method, const KernelParams& p, const Device& device) {
  return {method, is_scalar(method) || is_polyphase(method) ? Tiling{} : choose_tiling(pass, method, p, device)};
}

int64_t max_work_of(Method method) {
  return method == Method::direct ? kMaxDirectWork : method == Method::depthwise ? kMaxDepthwiseWork : kMaxGemmWork;
}

Step make_step(const Kernel& kernel, const Grid& grid) {
  const auto narrow = [](int64_t n) {
    if (n > std::numeric_limits<uint32_t>::max()) {
      throw std::length_error("a grid of more than 32 bits");  // make_params() lets none come to this
    }
    return static_cast<uint32_t>(n);
  };
  const int64_t slice =
      std::clamp(max_work_of(kernel.method) / std::max<int64_t>(grid.work_per_z, 1), int64_t{1}, grid.threads[2]);
  return {kernel,
          {narrow(grid.threads[0]), narrow(grid.threads[1]), narrow(grid.threads[2])},
          grid.threads_per_threadgroup,
          narrow(slice),
          0};
}

const char* name_of(Pass pass) {
  constexpr const char* names[] = {"forward", "input_grad", "weight_grad", "bias_grad"};
  return names[static_cast<size_t>(pass)];
}

const char* name_of(DataType dtype) {
  constexpr const char* names[] = {"float", "half", "bfloat"};
  return names[static_cast<size_t>(dtype)];
}

}  // namespace

// The M1 has 8 cores, later chips 10; a Pro, Max or Ultra 2, 4 or 8 times as many, to within a tenth. The cheapest of
// each kind has up to a quarter fewer. A Mac with another GPU (virtual, or a phone's) has no more than the smallest.
Device device_named(const std::string& name) {
  const auto says = [&](const char* words) { return name.find(words) != std::string::npos; };
  if (!says("Apple M")) {
    return {10};
  }
  const int least = name == "Apple M1" || says("Apple M1 ") ? 8 : 10;
  return {least * (says(" Ultra") ? 8 : says(" Max") ? 4 : says(" Pro") ? 2 : 1)};
}

Plan make_plan(Pass pass, DataType dtype, const KernelParams& p, const Device& device, std::optional<Method> forced,
               bool wants_bias_grad) {
  Plan plan{};
  const auto add = [&](const Kernel& kernel, const Grid& grid) {
    plan.steps[plan.step_count++] = make_step(kernel, grid);
  };
  if (p.batch == 0) {
    return plan;
  }
  const auto [method, tiling] =
      forced && can(pass, *forced, p) ? as_forced(pass, *forced, p, device) : choose_method(pass, p, device);
  const bool is_sum = pass == Pass::weight_grad || pass == Pass::bias_grad;
  if (is_scalar(method)) {
    if (is_sum) {
      plan.split_k = choose_parts(pass, method, p, max_work_of(method), device);
    }
    const int64_t parts = plan.split_k.splits, outputs = int64_t{p.groups} * p.out_channels;
    add({pass, method, dtype}, method == Method::direct ? direct_grid(pass, p, parts) : depthwise_grid(pass, p, parts));
    if (is_sum) {
      plan.has_bias_grad =
          pass == Pass::weight_grad && method == Method::depthwise && wants_bias_grad && covers_output(p);
      const int64_t elements = (pass == Pass::weight_grad ? outputs * p.in_channels * taps_of(p) : 0) +
                               (pass == Pass::bias_grad || plan.has_bias_grad ? outputs : 0);
      plan.partial_sums = parts * elements;
      add({pass, Method::sum_parts, dtype}, {{elements, 1, 1}, {kThreads, 1, 1}, elements * parts});
    }
    return plan;
  }
  if (is_polyphase(method)) {
    plan.phase_tile = choose_phase_tile(p, device.cores);
    add({pass, method, dtype}, phases_grid(p, plan.phase_tile));
    return plan;
  }
  add({pass, method, dtype}, gemm_grid(pass, method, p, tiling));
  plan.steps[0].tile_rows = tiling.rows;
  if (pass == Pass::weight_grad) {
    plan.split_k = tiling.split_k;
    plan.has_bias_grad = wants_bias_grad && some_taps_cover_output_once(p);
    const int64_t splits = plan.split_k.splits, columns = int64_t{p.groups} * p.columns;
    plan.partial_sums =
        (splits > 1 ? splits * columns * p.in_channels : 0) + (plan.has_bias_grad ? 2 * splits * columns : 0);
    if (plan.partial_sums > 0) {
      add({pass, Method::sum_splits, dtype}, sum_splits_grid(p, plan.split_k, plan.has_bias_grad, device));
    }
  }
  return plan;
}

std::array<std::pair<KernelBuffer, Operand>, kTensorBuffers> operands(const Kernel& kernel) {
  if (kernel.method == Method::sum_splits || kernel.method == Method::sum_parts) {
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

std::string Kernel::name() const {
  return std::string("conv_transpose3d_") + name_of(pass) + "_" + name_of(method) + "_" + name_of(dtype);
}

const char* name_of(Method method) {
  constexpr const char* names[] = {"direct",
                                   "depthwise",
                                   "tiled_gemm_bm64_bn128",
                                   "tiled_gemm_bm64_bn64",
                                   "tiled_gemm_bm32_bn64",
                                   "tiled_gemm_bm32_bn32",
                                   "polyphase_gemm",
                                   "polyphase_gemm_k3s2",
                                   "gemm_bm64_bn64",
                                   "gemm_bm32_bn64",
                                   "gemm_bm32_bn32",
                                   "sum_parts",
                                   "sum_splits"};
  return names[static_cast<size_t>(method)];
}

std::optional<Method> method_named(const std::string& name) {
  for (size_t i = 0; i < kMethods; ++i) {
    if (name == name_of(static_cast<Method>(i))) {
      return static_cast<Method>(i);
    }
  }
  return std::nullopt;
}

std::string explain(const Plan& plan) {
  if (plan.step_count == 0) {
    return "nothing to compute";
  }
  std::ostringstream text;
  for (uint32_t i = 0; i < plan.step_count; ++i) {
    const Step& step = plan.steps[i];
    const auto &threads = step.threads, &group = step.threads_per_threadgroup;
    const uint32_t dispatches = (threads[2] + step.slice - 1) / step.slice;
    text << (i == 0 ? "" : "; then ") << step.kernel.name() << ", grid " << threads[0] << " x " << threads[1] << " x "
         << threads[2] << " threads in groups of " << group[0] << " x " << group[1] << " x " << group[2] << ", "
         << dispatches << (dispatches == 1 ? " dispatch" : " dispatches");
  }
  if (plan.partial_sums > 0) {
    text << "; " << plan.split_k.splits << " partial sums, " << plan.partial_sums * sizeof(float) << " bytes";
  }
  return text.str();
}

}  // namespace mps_conv_transpose3d
