// The system that the process believes to run on.
#import <Foundation/Foundation.h>
#include <mach/vm_page_size.h>

#include "machine.h"

vm_size_t vm_page_size = static_cast<vm_size_t>(getpagesize());

@implementation NSProcessInfo (NSOperatingSystemVersion)

- (NSOperatingSystemVersion)operatingSystemVersion {
  return {mps_simulator::macos().major, mps_simulator::macos().minor, 0};
}

- (BOOL)isOperatingSystemAtLeastVersion:(NSOperatingSystemVersion)version {
  const NSOperatingSystemVersion current = [self operatingSystemVersion];
  if (current.majorVersion != version.majorVersion) return current.majorVersion > version.majorVersion;
  if (current.minorVersion != version.minorVersion) return current.minorVersion > version.minorVersion;
  return current.patchVersion >= version.patchVersion;
}

@end
