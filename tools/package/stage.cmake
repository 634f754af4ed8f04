# Before the files are packed: what Debian's policy asks of a package and an ordinary installation does not need.
set(root ${CPACK_TEMPORARY_DIRECTORY}/tools/usr/share)
set(documents ${root}/doc/qwb)
file(MAKE_DIRECTORY ${documents})
configure_file(${CMAKE_CURRENT_LIST_DIR}/copyright ${documents}/copyright COPYONLY)
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)  # SOURCE_DATE_EPOCH if that is set
file(WRITE ${documents}/changelog.Debian
     "qwb (${CPACK_PACKAGE_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}) unstable; urgency=medium\n\n  * Packaged by cpack.\n\n"
     " -- ${CPACK_PACKAGE_CONTACT}  ${date}\n")
file(GLOB manuals ${root}/man/man1/*.1)
execute_process(COMMAND gzip -9n ${manuals} ${documents}/changelog.Debian COMMAND_ERROR_IS_FATAL ANY)
file(CHMOD_RECURSE ${root} FILE_PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ
     DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
