# The .deb, by CPack, of the tree that deploy/debian/stage makes. `deploy/package` runs both.
add_custom_target(stage
    COMMAND ${CMAKE_SOURCE_DIR}/deploy/debian/stage $<TARGET_FILE:cairn> ${CMAKE_BINARY_DIR}/stage
            ${PROJECT_VERSION}
    DEPENDS cairn VERBATIM)

set(CPACK_GENERATOR DEB)
set(CPACK_INSTALL_CMAKE_PROJECTS "")             # what is installed is the stage, whatever else is built
set(CPACK_INSTALLED_DIRECTORIES "${CMAKE_BINARY_DIR}/stage;/")
set(CPACK_PACKAGING_INSTALL_PREFIX "/")
set(CPACK_PACKAGE_NAME cairn)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "Cairn maintainers <maintainers@cairn.example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "LLM inference appliance that remembers")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"Cairn serves Hugging Face checkpoints to OpenAI clients: continuous batching
over a paged KV cache with kernels of its own. Conversations outlive their
connection, their process and their machine; answers are the same bit for
bit whatever else the machine does.
.
The service is installed with a small demo model and is not started; name a
checkpoint in /etc/cairn/cairn.yaml, then: systemctl enable --now cairn")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "redis-server (>= 5:6.2)")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "tuned, driverctl, haproxy")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
foreach(script postinst prerm postrm conffiles)
    list(APPEND CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_SOURCE_DIR}/deploy/debian/${script})
endforeach()
set(CPACK_OUTPUT_FILE_PREFIX ${CMAKE_BINARY_DIR})
include(CPack)
