# Writes the page's files into one C++ source: cmake -DFOLDER=... -DOUT=... -P embed.cmake. The result depends on their names and
# bytes alone.
set(types "html=text/html\\; charset=utf-8" "css=text/css\\; charset=utf-8" "js=text/javascript\\; charset=utf-8")
file(GLOB names RELATIVE ${FOLDER} ${FOLDER}/*.html ${FOLDER}/*.css ${FOLDER}/*.js)
list(SORT names)
set(entries "")
foreach(name IN LISTS names)
  file(READ ${FOLDER}/${name} content)
  file(SHA256 ${FOLDER}/${name} hash)
  string(SUBSTRING ${hash} 0 32 hash)
  string(REGEX REPLACE ".*\\." "" ending ${name})
  foreach(type IN LISTS types)
    if(type MATCHES "^${ending}=(.*)")
      set(mime "${CMAKE_MATCH_1}")
    endif()
  endforeach()
  string(FIND "${content}" ")qwbpage\"" end)
  if(NOT end EQUAL -1)
    message(FATAL_ERROR "${name} holds what ends a raw string here")
  endif()
  string(APPEND entries "      {\"${name}\", \"${mime}\", \"\\\"${hash}\\\"\", R\"qwbpage(${content})qwbpage\"},\n")
endforeach()
file(WRITE ${OUT} "#include \"lib/serve/page/page_files.h\"\n\nnamespace qwb::serve {\n
const std::vector<PageFile>& page_files() {
  static const std::vector<PageFile> files = {\n${entries}  };
  return files;
}\n\n}  // namespace qwb::serve\n")
