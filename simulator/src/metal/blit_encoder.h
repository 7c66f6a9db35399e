// Copies between buffers.
#pragma once

#import "encoder.h"

@interface SimulatedBlitEncoder : SimulatedEncoder <MTLBlitCommandEncoder>
@end
