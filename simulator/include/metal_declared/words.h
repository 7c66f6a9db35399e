// Metal's names of the address spaces, and words that mean something in OpenCL alone.
#pragma once

#define device __global
#define constant __constant
#define threadgroup __local
#define thread __private
#define kernel

#define global global_
#define local local_
#define generic generic_
#define pipe pipe_
#define read_only read_only_
#define write_only write_only_
#define read_write read_write_
#define uniform uniform_
#define vec_step vec_step_
#define atomic_bool atomic_bool_
#define atomic_float atomic_float_
#define atomic_int atomic_int_
#define atomic_uint atomic_uint_
#define atomic_ulong atomic_ulong_
