# Writes the header FILE with the commit that SOURCE is at, at every build, but only where that changed.
#   cmake -DFILE=... -DSOURCE=... -P commit.cmake
# A source archive has no repository: both strings are then empty.
set(commit "")
set(date "")
find_program(git git)
if(git AND EXISTS ${SOURCE}/.git)
  execute_process(COMMAND ${git} -C ${SOURCE} describe --always --dirty --exclude=* OUTPUT_VARIABLE commit
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  execute_process(COMMAND ${git} -C ${SOURCE} log -1 --format=%cs OUTPUT_VARIABLE date OUTPUT_STRIP_TRAILING_WHITESPACE
                  ERROR_QUIET)
endif()
set(text "#define QWB_COMMIT \"${commit}\"\n#define QWB_COMMIT_DATE \"${date}\"\n")
set(old "")
if(EXISTS ${FILE})
  file(READ ${FILE} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${FILE} "${text}")
endif()
