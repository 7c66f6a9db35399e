// The planner for Python: it is tested, and explained, on machines that have neither torch nor Metal.

#include <pybind11/pybind11.h>

#include "planner/json.h"

PYBIND11_MODULE(_plan, m) {
  m.doc() = "Which kernels compute ConvTranspose3d, and over which grids.";
  m.def("answer", &mps_conv_transpose3d::answer, pybind11::arg("question"),
        "From JSON to JSON, as csrc/planner/json.h says. Raises ValueError for a question that makes no sense.");
}
