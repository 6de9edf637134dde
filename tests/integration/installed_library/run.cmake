# SPDX-License-Identifier: Apache-2.0
# BUILD: the build folder; WORK: a scratch folder; IMAGE: an image; COMPILER, GENERATOR, SANITIZE: as for the library.
file(REMOVE_RECURSE ${WORK})
set(prefix ${WORK}/prefix)
set(source ${CMAKE_CURRENT_LIST_DIR})
set(expected fd05e64009ad69cd43f191c102df324496050e28395b9af0147921842e5c5135c58e077e8c491fa06356f95e6408b88e)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE err OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGV}\nended with ${status}\n${out}\n${err}")
  endif()
  set(out "${out}" PARENT_SCOPE)
endfunction()

function(expect_pcr0 program)
  run(${program} ${IMAGE})
  if(NOT out STREQUAL expected)
    message(FATAL_ERROR "${program} prints ${out}")
  endif()
endfunction()

set(flags "")
if(SANITIZE)
  set(flags -fsanitize=${SANITIZE})
endif()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix} --component development)
# Other projects need not use our compile options.
file(GLOB_RECURSE texts ${prefix}/*.cmake ${prefix}/*.pc)
foreach(text ${texts})
  file(STRINGS ${text} leaked REGEX "-Wall|-fstack|FORTIFY|GLIBCXX_ASSERTIONS|-z,")
  if(leaked)
    message(FATAL_ERROR "${text} has ${leaked}")
  endif()
endforeach()
run(${CMAKE_COMMAND} -G "${GENERATOR}" -S ${source} -B ${WORK}/build -D CMAKE_PREFIX_PATH=${prefix} -D CMAKE_CXX_COMPILER=${COMPILER}
  -D CMAKE_CXX_FLAGS=${flags})
run(${CMAKE_COMMAND} --build ${WORK}/build)
expect_pcr0(${WORK}/build/pcr0)

file(GLOB_RECURSE pc ${prefix}/*/nitro-eif.pc)
get_filename_component(pc_folder ${pc} DIRECTORY)
set(ENV{PKG_CONFIG_PATH} ${pc_folder})
run(pkg-config --define-variable=prefix=${prefix} --cflags --libs nitro-eif)
separate_arguments(words UNIX_COMMAND "${out}")
run(${COMPILER} -std=c++20 ${flags} ${source}/pcr0.cpp -o ${WORK}/pcr0 ${words})
expect_pcr0(${WORK}/pcr0)
