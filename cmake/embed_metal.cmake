# cmake -DSOURCES="a.h;b.metal" -DTEXT=kernels.metal -DOUTPUT=shader_source.cpp -P embed_metal.cmake
#
# Joins the Metal sources into one text, and makes a C++ string of it, headers first: a library compiled on the user's
# machine has no include path, so local includes are left out.
set(text "")
foreach(source IN LISTS SOURCES)
  file(READ "${source}" content)
  string(REGEX REPLACE "#include \"[^\"]*\"|#pragma once" "" content "${content}")
  string(APPEND text "${content}\n")
endforeach()
file(WRITE "${TEXT}" "${text}")
file(WRITE "${OUTPUT}" "#include \"shader_source.h\"

namespace mps_conv_transpose3d {
const char* const kShaderSource = R\"METAL(${text})METAL\";
}
")
