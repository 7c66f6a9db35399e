// The tiles that matrix kernels are compiled for.
#pragma once

#define INSTANTIATE_TILED(kernel_name, m, n, type) \
  template [[host_name(#kernel_name "_" #m "x" #n  \
                                    "_" #type)]] [[kernel]] decltype(kernel_name<type, m, n>) kernel_name<type, m, n>;
#define INSTANTIATE_TILES(kernel_name, type)   \
  INSTANTIATE_TILED(kernel_name, 64, 64, type) \
  INSTANTIATE_TILED(kernel_name, 32, 64, type) \
  INSTANTIATE_TILED(kernel_name, 32, 32, type)
