# CMAKE_TOOLCHAIN_FILE for a project with Objective-C++ and Metal: what a Mac has in its SDK.
# find_library(Metal), find_library(Foundation) and find_library(MetalPerformanceShaders) find the simulator.
include(${CMAKE_CURRENT_LIST_DIR}/objective_cxx.cmake)

get_filename_component(MPS_SIMULATOR_LIB ${CMAKE_CURRENT_LIST_DIR}/../lib ABSOLUTE)
list(PREPEND CMAKE_LIBRARY_PATH ${MPS_SIMULATOR_LIB})

# The simulator comes first: it has its own block runtime, where GNUstep has another, and its own exception personality,
# where libobjc has another. Only what uses it is linked to it.
set(MPS_SIMULATOR_LIBRARIES
    "-L${MPS_SIMULATOR_LIB} -Wl,-rpath,${MPS_SIMULATOR_LIB} -Wl,--push-state,--as-needed -lmps_simulator -lgnustep-base \
-lobjc -Wl,--pop-state")
foreach(language C CXX OBJC OBJCXX)
  set(CMAKE_${language}_STANDARD_LIBRARIES ${MPS_SIMULATOR_LIBRARIES})
endforeach()
