# The table of operators that the installed torch has on mps: GENERATED_OPERATORS is the source file to compile.
set(GENERATED_OPERATORS ${CMAKE_CURRENT_BINARY_DIR}/operators.cpp)
set(OPERATORS ${CMAKE_CURRENT_LIST_DIR}/../../cmake)
add_custom_command(
  OUTPUT ${GENERATED_OPERATORS}
  COMMAND ${Python_EXECUTABLE} ${OPERATORS}/operators.py --output ${GENERATED_OPERATORS}
  DEPENDS ${OPERATORS}/operators.py ${OPERATORS}/operator_table.py ${OPERATORS}/operators.txt
  COMMENT "Listing the operators that mps has"
  VERBATIM)
