#pragma once

#import <Metal/MTLDefines.h>

@interface MTLCaptureManager : NSObject
@end
