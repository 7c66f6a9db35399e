// Counters in the code of a kernel.
//
// A kernel is compiled to LLVM's IR, whose text is read and extended here: a call of msl_count_block() in each basic
// block, one of msl_count_access() before each access to memory, and the table of what one execution of each block
// costs a lane. Functions of the library that are still calls in that text stand for an operation each
// (include/metal/_msl: MSL_INTRINSIC); their own code is not counted.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace mps_simulator::msl {

// Classes of operations of a lane, as far as GPUs differ in what they pay for them. Integers of 32 bits and fewer cost
// the same; a vector is its components.
enum Operation : unsigned {
  kFma,             // a * b + c, and what would be contracted to one
  kMatrixFma,       // ... of this lane's share of a simdgroup matrix product: 16 of the 512
  kFloat,           // add, multiply, compare, min, max
  kFloatDivide,     // also a remainder
  kFloatSpecial,    // sqrt, exp, log, sin ...
  kConvert,         // between integers and floats, and rounding to whole numbers
  kBfloatConvert,   // float to bfloat
  kInteger,         // add, subtract, logic, compare, select, min, max; an address from a base and an index
  kShift,           // and counting bits
  kMultiply,        // 32 bits
  kDivide,          // or remainder
  kDivideConstant,  // ... by a number known to the compiler
  kInteger64,       // add, subtract, logic, compare
  kMultiply64,      // to 64 bits
  kDivide64,        // or remainder
  kSimdgroup,       // shuffle, reduction, vote
  kAtomic,
  kOperations,
};
extern const std::array<const char*, kOperations> kOperationNames;

typedef std::array<uint16_t, kOperations> BlockCost;

std::string instrument(const std::string& ir);

}  // namespace mps_simulator::msl
