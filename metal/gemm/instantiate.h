// Instances of matrix kernels for tiles of BM x BN: kernel_bm64_bn64_float.
#pragma once

#include "../common.h"

#define INSTANTIATE_TILE(kernel_name, bm, bn) \
  INSTANTIATE_AS(#kernel_name "_bm" #bm "_bn" #bn, kernel_name<ELEMENT, bm, bn>)
#define INSTANTIATE_TILES(kernel_name)  \
  INSTANTIATE_TILE(kernel_name, 64, 64) \
  INSTANTIATE_TILE(kernel_name, 32, 64) \
  INSTANTIATE_TILE(kernel_name, 32, 32)
