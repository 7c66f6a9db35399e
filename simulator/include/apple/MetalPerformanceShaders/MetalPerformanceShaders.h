// MetalPerformanceShaders: the command buffer that PyTorch encodes into, and the types that its headers name.
#pragma once

#import <Metal/Metal.h>

NS_ASSUME_NONNULL_BEGIN

typedef NSArray<NSNumber*> MPSShape;

typedef NS_ENUM(uint32_t, MPSDataType) {
  MPSDataTypeInvalid = 0,
  MPSDataTypeFloatBit = 0x10000000,
  MPSDataTypeFloat32 = MPSDataTypeFloatBit | 32,
  MPSDataTypeFloat16 = MPSDataTypeFloatBit | 16,
  MPSDataTypeComplexBit = 0x01000000,
  MPSDataTypeComplexFloat32 = MPSDataTypeFloatBit | MPSDataTypeComplexBit | 64,
  MPSDataTypeComplexFloat16 = MPSDataTypeFloatBit | MPSDataTypeComplexBit | 32,
  MPSDataTypeSignedBit = 0x20000000,
  MPSDataTypeInt8 = MPSDataTypeSignedBit | 8,
  MPSDataTypeInt16 = MPSDataTypeSignedBit | 16,
  MPSDataTypeInt32 = MPSDataTypeSignedBit | 32,
  MPSDataTypeInt64 = MPSDataTypeSignedBit | 64,
  MPSDataTypeUInt8 = 8,
  MPSDataTypeUInt16 = 16,
  MPSDataTypeUInt32 = 32,
  MPSDataTypeUInt64 = 64,
  MPSDataTypeAlternateEncodingBit = 0x80000000,
  MPSDataTypeBool = MPSDataTypeAlternateEncodingBit | 8,
  MPSDataTypeBFloat16 = MPSDataTypeAlternateEncodingBit | MPSDataTypeFloat16,
};

// A command buffer round another one, which commitAndContinue replaces by a fresh one of the same queue.
@interface MPSCommandBuffer : NSObject <MTLCommandBuffer>
@property(readonly, nonatomic, nonnull, retain) id<MTLCommandBuffer> commandBuffer;
@property(readonly, nonatomic, nonnull, retain) id<MTLCommandBuffer> rootCommandBuffer;
+ (nonnull instancetype)commandBufferWithCommandBuffer:(nonnull id<MTLCommandBuffer>)commandBuffer;
+ (nonnull instancetype)commandBufferFromCommandQueue:(nonnull id<MTLCommandQueue>)commandQueue;
- (nonnull instancetype)initWithCommandBuffer:(nonnull id<MTLCommandBuffer>)commandBuffer;
- (void)commitAndContinue;
@end

@interface MPSKernel : NSObject
@end

@interface MPSNDArrayDescriptor : NSObject
@property(readwrite, nonatomic) BOOL preferPackedRows;
@end

@interface MPSNDArray : NSObject
@end

@interface MPSNDArrayMultiaryBase : MPSKernel
@end

@interface MPSNDArrayUnaryKernel : MPSNDArrayMultiaryBase
@end

NS_ASSUME_NONNULL_END
