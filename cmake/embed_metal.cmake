# cmake -DSOURCES="a.metal;b.metal" -DTEXTS=folder -DOUTPUT=shader_source.cpp -P embed_metal.cmake
#
# Makes one text of each Metal source and the local headers that it includes: what is compiled on the user's machine has
# no include path. Leaves the texts in a folder, and as C++ strings (csrc/shader_source.h).
cmake_minimum_required(VERSION 3.22)

# Appends the text of `file` to `text`, and in the place of each #include "..." that of the file included, once in a
# source. #line tells the compiler, and so whoever reads what it says, the file and the line.
function(append_source file)
  get_filename_component(folder "${file}" DIRECTORY)
  file(RELATIVE_PATH name "${root}" "${file}")
  file(READ "${file}" rest)
  string(REPLACE "#pragma once\n" "\n" rest "${rest}")
  set(line 1)
  while(TRUE)
    string(APPEND text "#line ${line} \"${name}\"\n")
    string(FIND "${rest}" "#include \"" at)
    if(at EQUAL -1)
      break()
    endif()
    string(SUBSTRING "${rest}" 0 ${at} before)
    string(SUBSTRING "${rest}" ${at} -1 rest)
    string(REGEX MATCH "^#include \"([^\"\n]*)\"\n" include "${rest}")
    string(LENGTH "${include}" length)
    get_filename_component(included "${folder}/${CMAKE_MATCH_1}" ABSOLUTE)
    if(length EQUAL 0 OR NOT EXISTS "${included}")
      message(FATAL_ERROR "${name} includes \"${CMAKE_MATCH_1}\", which is not there")
    endif()
    string(SUBSTRING "${rest}" ${length} -1 rest)
    string(APPEND text "${before}")
    string(REGEX MATCHALL "\n" lines "${before}${include}")
    list(LENGTH lines count)
    math(EXPR line "${line} + ${count}")
    if(NOT included IN_LIST seen)
      list(APPEND seen "${included}")
      append_source("${included}")
    endif()
  endwhile()
  set(text "${text}${rest}" PARENT_SCOPE)
  set(seen "${seen}" PARENT_SCOPE)
endfunction()

set(strings "")
set(cases "")
foreach(source IN LISTS SOURCES)
  get_filename_component(name "${source}" NAME_WE)
  get_filename_component(root "${source}/../.." ABSOLUTE)
  set(text "")
  set(seen "")
  append_source("${source}")
  file(WRITE "${TEXTS}/${name}.metal" "${text}")
  string(APPEND strings "const char k_${name}[] = R\"METAL(${text})METAL\";\n")
  string(APPEND cases "    case Library::${name}:\n      return k_${name};\n")
endforeach()
file(WRITE "${OUTPUT}" "#include \"shader_source.h\"

namespace mps_conv_transpose3d {
namespace {
${strings}}  // namespace

const char* shader_source(Library library) {
  switch (library) {
${cases}    case Library::none:
      break;
  }
  return nullptr;
}

}  // namespace mps_conv_transpose3d
")
