// scaled_dot_product_attention chooses its kernel through a table that knows no `mps` in a PyTorch without MPS compiled
// in. PyTorch's own choice on `mps` is the arithmetic written out in operators.
#include <ATen/ATen.h>
#include <ATen/ops/scaled_dot_product_attention_native.h>
#include <torch/library.h>

#include <limits>

namespace mps_simulator {
namespace {

// A mask of booleans says where to attend; one of numbers is added.
std::optional<at::Tensor> additive(const std::optional<at::Tensor>& mask, at::ScalarType dtype) {
  if (!mask.has_value() || !mask->defined() || mask->scalar_type() != at::kBool) {
    return mask;
  }
  return at::zeros_like(*mask, mask->options().dtype(dtype))
      .masked_fill(mask->logical_not(), -std::numeric_limits<double>::infinity());
}

at::Tensor scaled_dot_product_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                        const std::optional<at::Tensor>& attn_mask, double dropout_p, bool is_causal,
                                        std::optional<double> scale, bool enable_gqa) {
  if (!query.is_mps()) {
    return at::native::scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale,
                                                    enable_gqa);
  }
  return std::get<0>(at::_scaled_dot_product_attention_math(query, key, value, additive(attn_mask, query.scalar_type()),
                                                            dropout_p, is_causal, std::nullopt, scale, enable_gqa));
}

TORCH_LIBRARY_IMPL(aten, MPS, m) { m.impl("scaled_dot_product_attention", &scaled_dot_product_attention); }
TORCH_LIBRARY_IMPL(aten, AutogradMPS, m) { m.impl("scaled_dot_product_attention", &scaled_dot_product_attention); }
// What torch.func's wrappers come through, of any device.
TORCH_LIBRARY_IMPL(aten, AutogradOther, m) { m.impl("scaled_dot_product_attention", &scaled_dot_product_attention); }

}  // namespace
}  // namespace mps_simulator
