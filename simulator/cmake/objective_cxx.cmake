# How Objective-C++ is compiled here: clang, GNUstep's Foundation, GCC's Objective-C runtime, Apple's headers as declared
# in include/apple. This file is a toolchain of its own; toolchain.cmake adds the libraries.
find_program(MPS_SIMULATOR_CLANG NAMES clang-19 REQUIRED)
find_program(MPS_SIMULATOR_CLANGXX NAMES clang++-19 REQUIRED)
foreach(language C OBJC)
  set(CMAKE_${language}_COMPILER ${MPS_SIMULATOR_CLANG})
endforeach()
foreach(language CXX OBJCXX)
  set(CMAKE_${language}_COMPILER ${MPS_SIMULATOR_CLANGXX})
endforeach()

# The headers of libobjc lie among GCC's own, which clang must not find before its own: hence -idirafter.
file(GLOB MPS_SIMULATOR_OBJC_HEADER /usr/lib/gcc/*/*/include/objc/objc.h)
if(NOT MPS_SIMULATOR_OBJC_HEADER)
  message(FATAL_ERROR "objc/objc.h was not found: install gobjc++ and libgnustep-base-dev")
endif()
list(SORT MPS_SIMULATOR_OBJC_HEADER COMPARE NATURAL)
list(GET MPS_SIMULATOR_OBJC_HEADER -1 MPS_SIMULATOR_OBJC_HEADER)
get_filename_component(MPS_SIMULATOR_OBJC_DIR ${MPS_SIMULATOR_OBJC_HEADER} DIRECTORY)
get_filename_component(MPS_SIMULATOR_OBJC_DIR ${MPS_SIMULATOR_OBJC_DIR} DIRECTORY)

get_filename_component(MPS_SIMULATOR_APPLE ${CMAKE_CURRENT_LIST_DIR}/../include/apple ABSOLUTE)

# On a Mac C and C++ have blocks and dispatch too.
set(MPS_SIMULATOR_FLAGS "-fblocks -pthread -isystem ${MPS_SIMULATOR_APPLE}")
set(MPS_SIMULATOR_OBJC_FLAGS
    "${MPS_SIMULATOR_FLAGS} -isystem /usr/include/GNUstep -idirafter ${MPS_SIMULATOR_OBJC_DIR} -fobjc-runtime=gcc \
-fobjc-exceptions -fexceptions -fconstant-string-class=NSConstantString -D_NATIVE_OBJC_EXCEPTIONS=1 -DGNUSTEP \
-DGNUSTEP_BASE_LIBRARY=1")
set(CMAKE_C_FLAGS_INIT ${MPS_SIMULATOR_FLAGS})
set(CMAKE_CXX_FLAGS_INIT ${MPS_SIMULATOR_FLAGS})
set(CMAKE_OBJC_FLAGS_INIT ${MPS_SIMULATOR_OBJC_FLAGS})
set(CMAKE_OBJCXX_FLAGS_INIT ${MPS_SIMULATOR_OBJC_FLAGS})
