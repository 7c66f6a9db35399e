# The table of operators that the installed torch has on mps: GENERATED_OPERATORS is the source file to compile.
set(GENERATED_OPERATORS ${CMAKE_CURRENT_BINARY_DIR}/operators.cpp)
file(GLOB OPERATOR_LISTS CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../../cmake/operators/*.txt)
add_custom_command(
  OUTPUT ${GENERATED_OPERATORS}
  COMMAND ${Python_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/../../cmake/operators.py --output ${GENERATED_OPERATORS}
  DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../../cmake/operators.py ${OPERATOR_LISTS}
  COMMENT "Listing the operators that mps has"
  VERBATIM)
