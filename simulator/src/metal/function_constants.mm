#import <Metal/Metal.h>

#include <cstring>

#include "../foundation/validation.h"
#import "error.h"
#import "library.h"
#import "object_state.h"

using namespace mps_simulator;

namespace {

// A scalar type; the vectors of 2, 3 and 4 follow it in MTLDataType.
struct Scalar {
  MTLDataType type;
  const char* name;
  size_t size;
};

constexpr Scalar kScalars[] = {
    {MTLDataTypeFloat, "float", 4},   {MTLDataTypeHalf, "half", 2}, {MTLDataTypeBFloat, "bfloat", 2},
    {MTLDataTypeInt, "int", 4},       {MTLDataTypeUInt, "uint", 4}, {MTLDataTypeShort, "short", 2},
    {MTLDataTypeUShort, "ushort", 2}, {MTLDataTypeChar, "char", 1}, {MTLDataTypeUChar, "uchar", 1},
    {MTLDataTypeBool, "bool", 1},     {MTLDataTypeLong, "long", 8}, {MTLDataTypeULong, "ulong", 8},
};

struct Type {
  std::string name;
  size_t size;
};

Type describe(MTLDataType type) {
  for (const Scalar& scalar : kScalars) {
    if (type < scalar.type || type > scalar.type + 3) continue;
    const size_t elements = type - scalar.type + 1;
    // A vector of 3 takes the room of 4.
    return {scalar.name + (elements == 1 ? "" : std::to_string(elements)),
            scalar.size * (elements == 3 ? 4 : elements)};
  }
  fail_validation("MTLDataType " + std::to_string(type) + " is not one of a function constant");
}

msl::ConstantValue read(const void* value, const Type& type) {
  if (!value) fail_validation("the value of a function constant is null");
  const auto* bytes = static_cast<const std::byte*>(value);
  return {type.name, {bytes, bytes + type.size}};
}

}  // namespace

namespace mps_simulator {

const msl::ConstantValues& constant_values(MTLFunctionConstantValues* values) {
  return state_of<msl::ConstantValues>(values);
}

MTLDataType data_type(const std::string& msl_name) {
  for (const Scalar& scalar : kScalars) {
    for (int elements = 1; elements <= 4; ++elements) {
      const auto type = static_cast<MTLDataType>(scalar.type + elements - 1);
      if (describe(type).name == msl_name) return type;
    }
  }
  return MTLDataTypeNone;
}

}  // namespace mps_simulator

@implementation MTLFunctionConstantValues

MPS_SIMULATOR_STATE(msl::ConstantValues)

- (void)setConstantValue:(const void*)value type:(MTLDataType)type atIndex:(NSUInteger)index {
  state_of<msl::ConstantValues>(self).by_index[index] = read(value, describe(type));
}

- (void)setConstantValues:(const void*)values type:(MTLDataType)type withRange:(NSRange)range {
  const size_t size = describe(type).size;
  for (NSUInteger i = 0; i < range.length; ++i) {
    [self setConstantValue:static_cast<const std::byte*>(values) + i * size type:type atIndex:range.location + i];
  }
}

- (void)setConstantValue:(const void*)value type:(MTLDataType)type withName:(NSString*)name {
  state_of<msl::ConstantValues>(self).by_name[to_string(name)] = read(value, describe(type));
}

- (void)reset {
  state_of<msl::ConstantValues>(self) = {};
}

@end
