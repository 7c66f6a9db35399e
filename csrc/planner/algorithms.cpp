#include "planner/algorithms.h"

#include "planner/integers.h"

namespace mps_conv_transpose3d {
namespace {

template <typename Of>
bool on_all_axes(const KernelParams& p, const Of& of) {
  return of(p.depth) && of(p.height) && of(p.width);
}

// Whether the offsets within one sample and group fit 32 bits.
bool offsets_fit(int64_t channels, const std::array<int64_t, 3>& spatial, const Strides& s) {
  return fits((channels - 1) * s.channel + (spatial[0] - 1) * s.depth + (spatial[1] - 1) * s.height +
              (spatial[2] - 1) * s.width);
}

// Whether those of the largest coordinates do that a kernel computes outside of the tensors, where a thread goes up to
// `run` positions beyond them.
bool offsets_fit(int64_t in_channels, int64_t out_channels, int64_t run, const KernelParams& p) {
  const auto reach = [&](const Axis& axis) {
    return int64_t{axis.output} + axis.taps * axis.dilation + axis.padding + run * axis.stride;
  };
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  return offsets_fit(in_channels, {d.input + reach(d), h.input + reach(h), w.input + reach(w)}, p.input) &&
         offsets_fit(out_channels, {2 * reach(d), 2 * reach(h), 2 * reach(w)}, p.output);
}

// Whether the matrix kernels' indices fit 32 bits.
bool indices_fit(Pass pass, Family family, const KernelParams& p) {
  const GemmShape shape = gemm_shape(pass, family, p);
  return fits(shape.m + 128) && fits(shape.n + 128) && offsets_fit(p.in_channels, p.out_channels, 0, p);
}

// Whether the masks of the three axes fit one word, as they do for a kernel of 10 x 10 x 10.
bool masks_fit(int64_t bits) { return bits <= kMaxTapBits; }

}  // namespace

bool can_direct(Pass, const KernelParams&) { return true; }

// Kernels of 3x3x3; the forward pass's know where a stride of 2 and an odd padding put each tap.
bool can_depthwise(Pass pass, const KernelParams& p) {
  return offsets_fit(1, 1, kDepthwiseRun, p) && on_all_axes(p, [&](const Axis& axis) {
           const bool doubles = axis.stride == 2 && axis.padding % 2 == 1 && axis.dilation == 1;
           return axis.taps == 3 && (pass != Pass::forward || doubles);
         });
}

bool can_tiled(Pass pass, const KernelParams& p) {
  return is_non_overlapping(p) && indices_fit(pass, Family::tiled, p);
}

// Without running totals a sum is as exact as PyTorch's on the CPU, which sums the channels of each tap apart, only
// where it is no longer than 512.
bool can_tiled_without_totals(Pass pass, const KernelParams& p) { return p.in_channels <= 512 && can_tiled(pass, p); }

bool can_polyphase(Pass pass, const KernelParams& p) {
  return indices_fit(pass, Family::polyphase, p) &&
         masks_fit(int64_t{p.depth.shifts} + p.height.shifts + p.width.shifts);
}

bool can_polyphase_k3s2(Pass pass, const KernelParams& p) {
  return can_polyphase(pass, p) && on_all_axes(p, [](const Axis& axis) {
           return axis.taps == 3 && axis.stride == 2 && axis.padding == 1 && axis.dilation == 1;
         });
}

bool can_gradient(Pass pass, const KernelParams& p) {
  return indices_fit(pass, Family::gradient, p) && masks_fit(int64_t{p.depth.taps} + p.height.taps + p.width.taps);
}

const Algorithm* algorithm_named(std::string_view name) {
  for (const Algorithm& algorithm : kAlgorithms) {
    if (name == algorithm.name) {
      return &algorithm;
    }
  }
  return nullptr;
}

bool can(const Algorithm& algorithm, Pass pass, const KernelParams& p) {
  return algorithm.library(pass) != Library::none && algorithm.can(pass, p);
}

GemmShape gemm_shape(Pass pass, Family family, const KernelParams& p) {
  const int64_t positions = positions_of(p), columns = p.out_channels * taps_of(p);
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  const auto taps_of_a_phase = [](const Axis& axis) { return ceil_div(axis.taps, axis.tap_step); };
  switch (family) {
    case Family::tiled:
      return {positions, columns, p.in_channels};
    case Family::polyphase:
      // Columns come in fragments of 8 output channels of one phase.
      return {int64_t{d.quotients} * h.quotients * w.quotients, ceil_div(p.out_channels, 8) * 8 * reached_phases_of(p),
              p.in_channels * taps_of_a_phase(d) * taps_of_a_phase(h) * taps_of_a_phase(w)};
    default:
      return pass == Pass::input_grad ? GemmShape{p.in_channels, positions, columns}
                                      : GemmShape{p.in_channels, columns, positions};
  }
}

bool is_wide(Pass pass, Family family, const KernelParams& p) {
  const GemmShape shape = gemm_shape(pass, family, p);
  return p.in_channels >= 8 && shape.n >= 16 && shape.k >= 8 && (pass != Pass::forward || shape.m >= 16) &&
         (family != Family::polyphase || p.out_channels >= 6);
}

std::string Kernel::name() const {
  const auto index = [](auto value) { return static_cast<size_t>(value); };
  const char* function = algorithm ? algorithm->name : kReductionNames[index(reduction)];
  return std::string("conv_transpose3d_") + kPassNames[index(pass)] + "_" + function + "_" +
         kElementNames[index(dtype)];
}

Library Kernel::library() const {
  return algorithm ? algorithm->library(pass) : reduction == Reduction::parts ? Library::direct : Library::weight_grad;
}

size_t Kernel::function() const {
  return algorithm ? static_cast<size_t>(algorithm - kAlgorithms.data())
                   : kAlgorithms.size() + static_cast<size_t>(reduction) - 1;
}

}  // namespace mps_conv_transpose3d
