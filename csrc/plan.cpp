#include "plan.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <sstream>

namespace mps_conv_transpose3d {
namespace {

// Multiply-adds of one dispatch. One thread per output reaches about 0.4 % of an M1's 1.3 T/s, so this is some 0.1 s:
// macOS kills a command buffer that keeps the display's GPU for seconds.
constexpr int64_t kMaxWork = int64_t{1} << 29;

constexpr uint32_t kThreads = 32 * kMaxSimdgroups;  // of a threadgroup

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();

int64_t product(const std::array<int64_t, 3>& a) { return a[0] * a[1] * a[2]; }

bool fits(int64_t value) { return -kMaxInt <= value && value <= kMaxInt; }

uint32_t power_of_two_at_least(int64_t n, uint32_t limit) {
  uint32_t power = 1;
  while (power < n && power < limit) {
    power *= 2;
  }
  return power;
}

Axis make_axis(const Geometry& g, size_t i) {
  const int64_t common = std::gcd(g.stride[i], g.dilation[i]);
  const auto narrow = [](int64_t value) { return static_cast<int>(value); };
  return {narrow(g.input[i]),    narrow(g.output()[i]),          narrow(g.kernel[i]),
          narrow(g.stride[i]),   narrow(g.padding[i]),           narrow(g.dilation[i]),
          narrow(g.stride[i] / common), narrow(g.dilation[i] / common)};
}

Strides make_strides(const Strides5& s) {
  return {static_cast<long>(s[0]), static_cast<long>(s[1]), static_cast<int>(s[2]), static_cast<int>(s[3]),
          static_cast<int>(s[4])};
}

// Threads along W first, so that neighbouring lanes touch neighbouring elements.
std::array<uint32_t, 3> threadgroup_of_elements(int64_t width, int64_t height) {
  const uint32_t x = power_of_two_at_least(width, 32);
  const uint32_t y = power_of_two_at_least(height, kThreads / x);
  return {x, y, kThreads / x / y};
}

// A whole number of simdgroups, as many as there are rows to share.
std::array<uint32_t, 3> threadgroup_of_a_sum(int64_t width, int64_t rows) {
  const uint32_t x = power_of_two_at_least(width, 32);
  const uint32_t y = power_of_two_at_least(rows, kThreads / x);
  return {x, std::max(y, 32 / x), 1};
}

// What one pass covers: its grid in threads, and the multiply-adds of one step along z.
struct Grid {
  std::array<int64_t, 3> threads;
  std::array<uint32_t, 3> threads_per_threadgroup;
  int64_t work_per_z;
};

Grid grid_of(Pass pass, const ConvTranspose3dParams& p) {
  const Axis &d = p.depth, &h = p.height, &w = p.width;
  const int64_t taps = int64_t{d.taps} * h.taps * w.taps;
  const auto reaching = [](const Axis& axis) { return (axis.taps + axis.tap_step - 1) / axis.tap_step; };
  switch (pass) {
    case Pass::forward: {
      const int64_t taps_per_output = int64_t{reaching(d)} * reaching(h) * reaching(w);
      return {{w.output, h.output, int64_t{p.batch} * p.groups * p.out_channels * d.output},
              threadgroup_of_elements(w.output, h.output),
              int64_t{w.output} * h.output * p.in_channels * taps_per_output};
    }
    case Pass::input_grad:
      return {{w.input, h.input, int64_t{p.batch} * p.groups * p.in_channels * d.input},
              threadgroup_of_elements(w.input, h.input),
              int64_t{w.input} * h.input * p.out_channels * taps};
    case Pass::weight_grad: {
      const auto threads = threadgroup_of_a_sum(w.input, int64_t{d.input} * h.input);
      return {{taps * threads[0], int64_t{p.out_channels} * threads[1], int64_t{p.groups} * p.in_channels},
              threads,
              taps * p.out_channels * p.batch * d.input * h.input * w.input};
    }
    case Pass::bias_grad:
      break;
  }
  const auto threads = threadgroup_of_a_sum(w.output, int64_t{d.output} * h.output);
  return {{threads[0], threads[1], int64_t{p.groups} * p.out_channels},
          threads,
          int64_t{p.batch} * d.output * h.output * w.output};
}

const char* pass_name(Pass pass) {
  switch (pass) {
    case Pass::forward:
      return "forward";
    case Pass::input_grad:
      return "input_grad";
    case Pass::weight_grad:
      return "weight_grad";
    case Pass::bias_grad:
      break;
  }
  return "bias_grad";
}

const char* type_name(DataType dtype) {
  switch (dtype) {
    case DataType::float32:
      return "float";
    case DataType::float16:
      return "half";
    case DataType::bfloat16:
      break;
  }
  return "bfloat";
}

}  // namespace

std::array<int64_t, 3> Geometry::output() const {
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
    last += (spatial[i] - 1) * strides[i + 2];
    if (!fits(strides[i + 2]) || !fits(spatial[i]) || !fits(last)) {
      return false;
    }
  }
  return true;
}

std::optional<ConvTranspose3dParams> make_params(const Geometry& g, const Strides5& input, const Strides5& output) {
  bool fit = spatial_offsets_fit(g.input, input) && spatial_offsets_fit(g.output(), output);
  for (size_t i = 0; i < 3; ++i) {
    // The largest coordinates that a kernel computes on its way.
    fit = fit && fits(g.input[i] * g.stride[i]) && fits(g.kernel[i] * g.dilation[i]) &&
          fits(g.output()[i] + g.padding[i] + g.kernel[i] * g.dilation[i]) && fits(g.stride[i] * g.dilation[i]);
  }
  const int64_t weights = g.in_channels * (g.out_channels / g.groups) * product(g.kernel);
  fit = fit && fits(g.batch) && fits(g.in_channels) && fits(g.out_channels) && fits(weights) &&
        fits(g.batch * g.in_channels * g.input[0]) && fits(g.batch * g.out_channels * g.output()[0]);
  if (!fit) {
    return std::nullopt;
  }
  ConvTranspose3dParams params{};
  params.depth = make_axis(g, 0);
  params.height = make_axis(g, 1);
  params.width = make_axis(g, 2);
  params.batch = static_cast<int>(g.batch);
  params.groups = static_cast<int>(g.groups);
  params.in_channels = static_cast<int>(g.in_channels / g.groups);
  params.out_channels = static_cast<int>(g.out_channels / g.groups);
  params.input = make_strides(input);
  params.output = make_strides(output);
  return params;
}

Plan make_plan(Pass pass, DataType dtype, const ConvTranspose3dParams& params) {
  Plan plan{pass, dtype, {}};
  const Grid grid = grid_of(pass, params);
  if (product(grid.threads) == 0) {
    return plan;
  }
  const int64_t step = std::clamp(kMaxWork / std::max<int64_t>(grid.work_per_z, 1), int64_t{1}, grid.threads[2]);
  for (int64_t first = 0; first < grid.threads[2]; first += step) {
    plan.dispatches.push_back({{static_cast<uint32_t>(grid.threads[0]), static_cast<uint32_t>(grid.threads[1]),
                                static_cast<uint32_t>(std::min(step, grid.threads[2] - first))},
                               grid.threads_per_threadgroup,
                               static_cast<uint32_t>(first)});
  }
  return plan;
}

std::string kernel_name(Pass pass, DataType dtype) {
  return std::string("conv_transpose3d_") + pass_name(pass) + "_" + type_name(dtype);
}

std::string explain(const Plan& plan, const ConvTranspose3dParams& params) {
  std::ostringstream text;
  text << pass_name(plan.pass) << ": " << kernel_name(plan.pass, plan.dtype);
  if (plan.dispatches.empty()) {
    text << ", nothing to compute";
    return text.str();
  }
  const Grid grid = grid_of(plan.pass, params);
  const auto& threads = grid.threads_per_threadgroup;
  text << ", grid " << grid.threads[0] << " x " << grid.threads[1] << " x " << grid.threads[2] << " threads in groups of "
       << threads[0] << " x " << threads[1] << " x " << threads[2] << ", " << plan.dispatches.size()
       << (plan.dispatches.size() == 1 ? " dispatch" : " dispatches");
  return text.str();
}

}  // namespace mps_conv_transpose3d
