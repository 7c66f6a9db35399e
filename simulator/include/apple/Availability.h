// The SDK that these headers stand for is macOS 15's: headers which declare newer API themselves ask for its name.
#pragma once

#define __MAC_13_0 130000
#define __MAC_14_0 140000
#define __MAC_15_0 150000
#define MAC_OS_X_VERSION_13_0 130000
#define MAC_OS_X_VERSION_14_0 140000
#define MAC_OS_X_VERSION_15_0 150000

#define API_AVAILABLE(...)
#define API_DEPRECATED(...)
#define API_DEPRECATED_WITH_REPLACEMENT(...)
#define API_UNAVAILABLE(...)
