// The planner for Python: plans are tested and explained on machines that have neither torch nor Metal.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>

#include "plan.h"
#include "plan_json.h"

namespace py = pybind11;
using namespace mps_conv_transpose3d;

PYBIND11_MODULE(_plan, m) {
  m.attr("MAX_PHASE_ELEMENTS") = static_cast<int>(kMaxPolyphaseElements);
  m.attr("GEMM_THREADS") = static_cast<int>(kGemmThreads);
  m.attr("THREADS") = static_cast<int>(kThreads);
  m.doc() = "Which kernel computes a pass of ConvTranspose3d, and over which grid.";

  py::enum_<Pass>(m, "Pass")
      .value("forward", Pass::forward)
      .value("input_grad", Pass::input_grad)
      .value("weight_grad", Pass::weight_grad)
      .value("bias_grad", Pass::bias_grad);
  py::enum_<DataType>(m, "DataType")
      .value("float32", DataType::float32)
      .value("float16", DataType::float16)
      .value("bfloat16", DataType::bfloat16);

  py::class_<Geometry>(m, "Geometry")
      .def(py::init<>())
      .def_readwrite("batch", &Geometry::batch)
      .def_readwrite("in_channels", &Geometry::in_channels)
      .def_readwrite("out_channels", &Geometry::out_channels)
      .def_readwrite("groups", &Geometry::groups)
      .def_readwrite("input", &Geometry::input)
      .def_readwrite("kernel", &Geometry::kernel)
      .def_readwrite("stride", &Geometry::stride)
      .def_readwrite("padding", &Geometry::padding)
      .def_readwrite("output_padding", &Geometry::output_padding)
      .def_readwrite("dilation", &Geometry::dilation)
      .def_property_readonly("output", &Geometry::output);

  py::enum_<Method>(m, "Method")
      .value("direct", Method::direct)
      .value("depthwise", Method::depthwise)
      .value("tiled_gemm_bm64_bn128", Method::tiled_gemm_bm64_bn128)
      .value("tiled_gemm_bm64_bn64", Method::tiled_gemm_bm64_bn64)
      .value("tiled_gemm_bm32_bn64", Method::tiled_gemm_bm32_bn64)
      .value("tiled_gemm_bm32_bn32", Method::tiled_gemm_bm32_bn32)
      .value("polyphase_gemm", Method::polyphase_gemm)
      .value("polyphase_gemm_k3s2", Method::polyphase_gemm_k3s2)
      .value("gemm_bm64_bn64", Method::gemm_bm64_bn64)
      .value("gemm_bm32_bn64", Method::gemm_bm32_bn64)
      .value("gemm_bm32_bn32", Method::gemm_bm32_bn32)
      .value("sum_parts", Method::sum_parts)
      .value("sum_splits", Method::sum_splits);

  py::class_<Step>(m, "Step")
      .def_property_readonly("kernel", [](const Step& step) { return step.kernel.name(); })
      .def_property_readonly("method", [](const Step& step) { return step.kernel.method; })
      .def_readonly("threads", &Step::threads)
      .def_readonly("threads_per_threadgroup", &Step::threads_per_threadgroup)
      .def_readonly("slice", &Step::slice)
      .def_readonly("tile_rows", &Step::tile_rows);

  const auto extent = [](Extent PolyphaseTile::* field) {
    return [field](const PolyphaseTile& tile) {
      const Extent& e = tile.*field;
      return std::array<int, 3>{e.d, e.h, e.w};
    };
  };
  py::class_<PolyphaseTile>(m, "PolyphaseTile")
      .def_property_readonly("box", extent(&PolyphaseTile::box))
      .def_property_readonly("boxes",
                             [](const PolyphaseTile& tile) {
                               const FastDivmods& boxes = tile.boxes;
                               return std::array<int, 3>{boxes.d.value, boxes.h.value, boxes.w.value};
                             })
      .def_property_readonly("shifts", extent(&PolyphaseTile::shifts))
      .def_property_readonly("staged", extent(&PolyphaseTile::staged))
      .def_property_readonly("pitch", extent(&PolyphaseTile::pitch))
      .def_property_readonly("box_reciprocal", extent(&PolyphaseTile::box_reciprocal))
      .def_property_readonly("staged_reciprocal", extent(&PolyphaseTile::staged_reciprocal))
      .def_readonly("copies", &PolyphaseTile::copies)
      .def_readonly("copies_h", &PolyphaseTile::copies_h)
      .def_readonly("rows", &PolyphaseTile::rows)
      .def_readonly("fragment_rows", &PolyphaseTile::fragment_rows)
      .def_readonly("positions", &PolyphaseTile::positions);

  py::class_<Plan>(m, "Plan")
      .def_property_readonly(
          "steps", [](const Plan& plan) { return std::vector<Step>(&plan.steps[0], &plan.steps[0] + plan.step_count); })
      .def_readonly("phase_tile", &Plan::phase_tile)
      .def_property_readonly("split_k",
                             [](const Plan& plan) {
                               const SplitK& split = plan.split_k;
                               return std::array<int, 3>{split.splits, split.length, split.k_per_sample.value};
                             })
      .def_readonly("partial_sums", &Plan::partial_sums)
      .def_readonly("has_bias_grad", &Plan::has_bias_grad)
      .def("__str__", &explain);

  m.def("plan", &plan_json, py::arg("request"), "From JSON to JSON, as torch.ops.mps_conv_transpose3d.plan does it.");

  const auto params_of = [](const Geometry& g) {
    const auto params =
        make_params(g, contiguous_strides(g.in_channels, g.input), contiguous_strides(g.out_channels, g.output()));
    if (!params) {
      throw std::overflow_error("the offsets within one channel do not fit 32 bits");
    }
    return *params;
  };
  m.def(
      "cores_of", [](const std::string& device) { return device_named(device).cores; }, py::arg("device"),
      "How many cores the GPU that Metal gives this name is taken to have.");
  m.def(
      "make_plan",
      [params_of](Pass pass, DataType dtype, const Geometry& g, std::optional<Method> forced, bool wants_bias_grad,
                  int cores) { return make_plan(pass, dtype, params_of(g), Device{cores}, forced, wants_bias_grad); },
      py::arg("pass_"), py::arg("dtype"), py::arg("geometry"), py::arg("forced") = py::none(),
      py::arg("wants_bias_grad") = false, py::arg("cores") = 10,
      "The plan for dense tensors on a GPU of so many cores; str(plan) is in words. `forced` overrides the method "
      " where it can compute the problem. Raises OverflowError if the tensors' offsets do not fit 32 bits.");
}
