# What cpack makes: a .deb for the Debian or Ubuntu that it is built on, of the tools, their manual and the demo. Headers and
# static libraries (the component "development") are for `cmake --install` alone.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME qwb)
set(CPACK_PACKAGE_CONTACT "the qwb project")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ
                                                WORLD_EXECUTE)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "quantize language models and measure what it costs")
set(CPACK_DEBIAN_TOOLS_DESCRIPTION "qwb reads a Hugging Face checkpoint, quantizes it block by block in little
memory (rtn, int8, nf4, fp4, gptq, awq), keeps the result in a content-hashed
cache, and measures what each version costs (bytes, speed, memory, energy) and
what it lost (perplexity, divergence, tasks). It converts between GPTQ, AWQ,
bitsandbytes, compressed-tensors, GGUF and plain Hugging Face models.
.
Two tiny demo models come with it.")

# The release names the distribution: the same version built on another one has other dependencies.
set(codename unknown)
if(EXISTS /etc/os-release)
  file(STRINGS /etc/os-release codename REGEX "^VERSION_CODENAME=")
  string(REPLACE "VERSION_CODENAME=" "" codename "${codename}")
endif()
set(CPACK_DEBIAN_PACKAGE_RELEASE 1~${codename})
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL tools)
set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME qwb)
set(CPACK_DEBIAN_TOOLS_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_TOOLS_PACKAGE_RECOMMENDS "ca-certificates, gnuplot-nox")
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/stage.cmake)
