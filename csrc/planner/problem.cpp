#include "planner/problem.h"

#include <algorithm>
#include <numeric>

#include "planner/integers.h"

namespace mps_conv_transpose3d {
namespace {

Axis make_axis(const ProblemSize& g, size_t i) {
  const int64_t common = std::gcd(g.stride[i], g.dilation[i]);
  const auto narrow = [](int64_t value) { return static_cast<int>(value); };
  // Tap k carries input q + shift to outputs q * stride + phase, where 0 <= phase < stride.
  const auto shift = [&](int64_t k) {
    return floor_div(g.padding[i] - k * g.dilation[i] + g.stride[i] - 1, g.stride[i]);
  };
  const int64_t output = g.output()[i], first_shift = shift(g.kernel[i] - 1);
  return {narrow(g.input[i]),
          narrow(output),
          narrow(g.kernel[i]),
          narrow(g.stride[i]),
          narrow(g.padding[i]),
          narrow(g.dilation[i]),
          narrow(g.stride[i] / common),
          narrow(g.dilation[i] / common),
          narrow(ceil_div(output, g.stride[i])),
          narrow(first_shift),
          narrow(shift(0) - first_shift + 1)};
}

Strides make_strides(const Strides5& s) {
  // One that does not fit belongs to an axis of one element, where any will do.
  const auto narrow = [](int64_t stride) { return fits(stride) ? static_cast<int>(stride) : 0; };
  return {static_cast<long>(s[0]), static_cast<long>(s[1]), narrow(s[2]), narrow(s[3]), narrow(s[4])};
}

}  // namespace

std::array<int64_t, 3> ProblemSize::output() const {
  std::array<int64_t, 3> size{};
  for (size_t i = 0; i < 3; ++i) {
    size[i] = (input[i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + output_padding[i] + 1;
  }
  return size;
}

Strides5 contiguous_strides(int64_t channels, const std::array<int64_t, 3>& spatial) {
  return {channels * product(spatial), product(spatial), spatial[1] * spatial[2], spatial[2], 1};
}

bool spatial_offsets_fit(const std::array<int64_t, 3>& spatial, const Strides5& strides) {
  int64_t last = 0;
  for (size_t i = 0; i < 3; ++i) {
    const int64_t stride = spatial[i] > 1 ? strides[i + 2] : 0;
    if (!fits(stride) || !fits(spatial[i])) {
      return false;
    }
    last += (spatial[i] - 1) * stride;
    if (!fits(last)) {
      return false;
    }
  }
  return true;
}

std::optional<KernelParams> make_params(const ProblemSize& g, const Strides5& input, const Strides5& output) {
  bool fit = spatial_offsets_fit(g.input, input) && spatial_offsets_fit(g.output(), output);
  for (size_t i = 0; i < 3; ++i) {
    // The largest coordinates that a kernel computes on its way.
    fit = fit && fits(g.input[i] * g.stride[i]) && fits(g.kernel[i] * g.dilation[i]) &&
          fits(g.output()[i] + g.padding[i] + g.kernel[i] * g.dilation[i] + g.stride[i]);
  }
  const auto &x = g.input, y = g.output(), &k = g.kernel;
  fit = fit && product_fits({g.in_channels, g.out_channels / g.groups, k[0], k[1], k[2]}) &&
        product_fits({g.batch, g.in_channels, x[0]}) && product_fits({g.batch, g.out_channels, y[0]}) &&
        product_fits({g.batch, x[0], x[1], x[2]}) && product_fits({g.batch, y[0], y[1], y[2]});
  // Threads along an axis of a grid: a threadgroup for each channel, or a simdgroup for each tap or pair of channels.
  fit = fit && product_fits({g.in_channels, kThreads}) && product_fits({g.out_channels, kThreads}) &&
        product_fits({k[0], k[1], k[2], 32}) && product_fits({g.in_channels, g.out_channels / g.groups, 32}) &&
        product_fits({g.out_channels / g.groups, k[0], k[1], k[2], 4});
  if (!fit) {
    return std::nullopt;
  }
  KernelParams params{};
  params.depth = make_axis(g, 0);
  params.height = make_axis(g, 1);
  params.width = make_axis(g, 2);
  params.batch = static_cast<int>(g.batch);
  params.groups = static_cast<int>(g.groups);
  params.in_channels = static_cast<int>(g.in_channels / g.groups);
  params.out_channels = static_cast<int>(g.out_channels / g.groups);
  const auto divisors = [](const std::array<int64_t, 3>& a) -> FastDivmods {
    return {make_fast_divmod(a[0]), make_fast_divmod(a[1]), make_fast_divmod(a[2])};
  };
  const Axis &d = params.depth, &h = params.height, &w = params.width;
  params.inputs = divisors(g.input);
  params.taps = divisors(g.kernel);
  params.quotients = divisors({d.quotients, h.quotients, w.quotients});
  const auto phases = [](const Axis& axis) { return std::min(axis.taps, axis.tap_step); };
  params.phases = divisors({phases(d), phases(h), phases(w)});
  params.positions = static_cast<int>(product(g.input));
  params.columns = static_cast<int>(params.out_channels * product(g.kernel));
  params.group = make_fast_divmod(g.groups);
  params.input = make_strides(input);
  params.output = make_strides(output);
  // A product that does not fit is of an axis with one input, or one tap, and never used.
  const auto step = [](int64_t places, int64_t stride) { return static_cast<int>(places * stride); };
  const Strides& to = params.output;
  params.output_of_input = {step(d.stride, to.depth), step(h.stride, to.height), step(w.stride, to.width)};
  params.output_of_tap = {step(d.dilation, to.depth), step(h.dilation, to.height), step(w.dilation, to.width)};
  params.output_start =
      step(-1, int64_t{d.padding} * to.depth + int64_t{h.padding} * to.height + int64_t{w.padding} * to.width);
  params.flat_input = input[4] == 1 && input[3] == g.input[2] && input[2] == g.input[1] * g.input[2];
  params.non_overlapping = is_non_overlapping(params);
  params.paired_output = params.non_overlapping && output[4] == 1 && g.kernel[2] % 2 == 0;
  return params;
}

bool is_non_overlapping(const KernelParams& p) {
  const auto tiles = [](const Axis& axis) {
    return axis.taps == axis.stride && axis.padding == 0 && (axis.dilation == 1 || axis.taps == 1) &&
           axis.output == axis.input * axis.stride;
  };
  return tiles(p.depth) && tiles(p.height) && tiles(p.width);
}

bool some_taps_cover_output_once(const KernelParams& p) {
  const auto tiles = [](const Axis& axis) {
    return axis.taps >= axis.padding + axis.stride && (axis.dilation == 1 || axis.taps == 1) &&
           axis.output == axis.input * axis.stride;
  };
  return tiles(p.depth) && tiles(p.height) && tiles(p.width);
}

bool covers_output(const KernelParams& p) {
  const auto reaches = [](const Axis& axis) {
    return axis.dilation == 1 && axis.taps >= axis.stride &&
           (int64_t{axis.input} - 1) * axis.stride + axis.taps - axis.padding >= axis.output;
  };
  return reaches(p.depth) && reaches(p.height) && reaches(p.width);
}

int64_t taps_of(const KernelParams& p) { return int64_t{p.depth.taps} * p.height.taps * p.width.taps; }
int64_t reached_phases_of(const KernelParams& p) {
  return int64_t{p.phases.d.value} * p.phases.h.value * p.phases.w.value;
}
int64_t positions_of(const KernelParams& p) { return int64_t{p.depth.input} * p.height.input * p.width.input; }
int64_t output_positions_of(const KernelParams& p) {
  return int64_t{p.depth.output} * p.height.output * p.width.output;
}

}  // namespace mps_conv_transpose3d
