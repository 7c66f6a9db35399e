// Tensors that are made on `mps`, with the checks and words of torch's EmptyTensor.cpp.
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/mps/MPSDevice.h>
#include <ATen/native/TensorFactories.h>
#include <torch/library.h>

namespace mps_simulator {
namespace {

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::MPS);
constexpr size_t kMaxDimensions = 16;

c10::ScalarType checked_dtype(std::optional<c10::ScalarType> dtype_or_default) {
  const c10::ScalarType dtype = c10::dtype_or_default(dtype_or_default);
  TORCH_CHECK_TYPE(dtype != c10::kDouble,
                   "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
                   "Please use float32 instead.");
  TORCH_CHECK_TYPE(dtype != c10::kComplexDouble,
                   "Trying to convert ComplexDouble to the MPS backend but it does not have support for that dtype.");
  return dtype;
}

void check_layout(std::optional<c10::Layout> layout) {
  TORCH_CHECK_NOT_IMPLEMENTED(c10::layout_or_default(layout) == c10::kStrided,
                              "only strided tensors are supported on MPS");
}

at::Tensor filled_if_deterministic(at::Tensor tensor) {
  const auto& context = at::globalContext();
  if (context.deterministicAlgorithms() && context.deterministicFillUninitializedMemory()) {
    at::native::fill_empty_deterministic_(tensor);
  }
  return tensor;
}

at::Tensor empty_memory_format(at::IntArrayRef size, std::optional<c10::ScalarType> dtype,
                               std::optional<c10::Layout> layout, std::optional<c10::Device>, std::optional<bool>,
                               std::optional<c10::MemoryFormat> memory_format) {
  check_layout(layout);
  TORCH_CHECK(size.size() <= kMaxDimensions, "MPS supports tensors with dimensions <= 16, but got ", size.size(), ".");
  return filled_if_deterministic(
      at::detail::empty_generic(size, at::mps::GetMPSAllocator(), kKeys, checked_dtype(dtype), memory_format));
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<c10::ScalarType> dtype,
                         std::optional<c10::Layout> layout, std::optional<c10::Device>, std::optional<bool>) {
  check_layout(layout);
  return filled_if_deterministic(
      at::detail::empty_strided_generic(size, stride, at::mps::GetMPSAllocator(), kKeys, checked_dtype(dtype)));
}

// A tensor of zeros without memory, which forward-mode AD makes for a tangent that is not there.
at::Tensor efficient_zero_tensor(at::IntArrayRef size, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout>,
                                 std::optional<c10::Device>, std::optional<bool>) {
  struct NoMemory final : c10::Allocator {
    c10::DataPtr allocate(size_t) override { return {nullptr, nullptr, &no_deletion, c10::Device(c10::kMPS, 0)}; }
    c10::DeleterFnPtr raw_deleter() const override { return &no_deletion; }
    void copy_data(void*, const void*, size_t) const override {}
    static void no_deletion(void*) {}
  };
  static auto* no_memory = new NoMemory;
  return at::detail::empty_generic(size, no_memory, kKeys.add(c10::DispatchKey::ZeroTensor), checked_dtype(dtype),
                                   std::nullopt);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, MPS, m) {
  m.impl("empty.memory_format", TORCH_FN(empty_memory_format));
  m.impl("empty_strided", TORCH_FN(empty_strided));
  m.impl("_efficientzerotensor", TORCH_FN(efficient_zero_tensor));
}

}  // namespace mps_simulator
