// The part of MetalPerformanceShaders that PyTorch's MPS headers use, declared by hand for the Mac check.
#pragma once

#include <Foundation/Foundation.h>
#include <Metal/Metal.h>

NS_ASSUME_NONNULL_BEGIN

typedef NSArray<NSNumber*> MPSShape;

typedef NS_ENUM(uint32_t, MPSDataType) {
  MPSDataTypeInvalid = 0,
  MPSDataTypeFloatBit = 0x10000000,
  MPSDataTypeFloat32 = MPSDataTypeFloatBit | 32,
  MPSDataTypeFloat16 = MPSDataTypeFloatBit | 16,
  MPSDataTypeSignedBit = 0x20000000,
  MPSDataTypeInt8 = MPSDataTypeSignedBit | 8,
  MPSDataTypeInt16 = MPSDataTypeSignedBit | 16,
  MPSDataTypeInt32 = MPSDataTypeSignedBit | 32,
  MPSDataTypeInt64 = MPSDataTypeSignedBit | 64,
  MPSDataTypeUInt8 = 8,
};

// A command buffer which can commit what it has and go on with a fresh one.
@interface MPSCommandBuffer : NSObject <MTLCommandBuffer>
@property(readonly, nonnull, nonatomic, retain) id<MTLCommandBuffer> commandBuffer;
@property(readonly, nonnull, nonatomic, retain) id<MTLCommandBuffer> rootCommandBuffer;
+ (instancetype)commandBufferFromCommandQueue:(id<MTLCommandQueue>)commandQueue;
+ (instancetype)commandBufferWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer;
- (void)commitAndContinue;
@end

@interface MPSKernel : NSObject <NSCopying, NSSecureCoding>
@property(readwrite, copy, nullable) NSString* label;
@end

@interface MPSNDArrayDescriptor : NSObject
@end

@interface MPSNDArray : NSObject
@end

@interface MPSNDArrayMultiaryBase : MPSKernel
@end

@interface MPSNDArrayMultiaryKernel : MPSNDArrayMultiaryBase
@end

@interface MPSNDArrayUnaryKernel : MPSNDArrayMultiaryBase
@end

NS_ASSUME_NONNULL_END
