// Loads and stores of 2 or 4 adjacent elements in device memory. Their address suits an element, not the vector. A load
// or store takes the slot of a multiply-add whatever its size.
#pragma once

#include <metal_stdlib>

using namespace metal;

METAL_FUNC float2 load2(device const float* from) { return *reinterpret_cast<device const packed_float2*>(from); }
METAL_FUNC float4 load4(device const float* from) { return *reinterpret_cast<device const packed_float4*>(from); }
METAL_FUNC void store2(device float* to, float2 value) { *reinterpret_cast<device packed_float2*>(to) = value; }
METAL_FUNC void store4(device float* to, float4 value) { *reinterpret_cast<device packed_float4*>(to) = value; }

METAL_FUNC half2 load2(device const half* from) { return *reinterpret_cast<device const packed_half2*>(from); }
METAL_FUNC half4 load4(device const half* from) { return *reinterpret_cast<device const packed_half4*>(from); }
METAL_FUNC void store2(device half* to, float2 value) { *reinterpret_cast<device packed_half2*>(to) = half2(value); }
METAL_FUNC void store4(device half* to, float4 value) { *reinterpret_cast<device packed_half4*>(to) = half4(value); }

#if __METAL_VERSION__ >= 310
METAL_FUNC float2 load2(device const bfloat* from) {
  return float2(as_type<bfloat2>(ushort2(*reinterpret_cast<device const packed_ushort2*>(from))));
}
METAL_FUNC float4 load4(device const bfloat* from) {
  return float4(as_type<bfloat4>(ushort4(*reinterpret_cast<device const packed_ushort4*>(from))));
}
METAL_FUNC void store2(device bfloat* to, float2 value) {
  *reinterpret_cast<device packed_ushort2*>(to) = as_type<ushort2>(bfloat2(value));
}
METAL_FUNC void store4(device bfloat* to, float4 value) {
  *reinterpret_cast<device packed_ushort4*>(to) = as_type<ushort4>(bfloat4(value));
}
#endif
