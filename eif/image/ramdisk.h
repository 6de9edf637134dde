// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eif/image/cpio.h"
#include "eif/image/extent.h"
#include "eif/image/tree.h"
#include "nitro/byte_sink.h"

namespace nitro::image {

/// An enclave has two ramdisks: the first starts it, the second is the user's. Their bytes are measured, so each
/// function here produces exactly the bytes of the reference tool chain (linuxkit, given an engine's export of a
/// container) for the same input.

/// Writes the first one: dev/, init, and nsm.ko if there is one; all owned by root, 0755, dated kFixedTime.
Result<void> write_bootstrap_ramdisk(const Extent& init, const std::optional<Extent>& nsm_module, const ByteSink& sink);

/// Creates the files that an engine puts into every container: mount points, /etc/hosts and the like, and the working
/// folder of the image if it is missing. Errors: kEifBuilding when a file is in the place of the working folder.
Result<void> add_container_files(Tree& tree, std::string_view working_folder);

/// Writes content of a layer after the header that `writer` has begun: bytes of the layer's (uncompressed) archive.
using CopyContent = std::function<Result<void>(CpioWriter& writer, std::uint32_t layer, std::uint64_t offset_bytes,
                                               std::uint64_t size_bytes)>;

/// Writes the second one: the files of the container below rootfs/, then the file `cmd` with one line for each word of
/// the command, and `env` with one line for each variable.
Result<void> write_customer_ramdisk(const Tree& tree, const CopyContent& copy, std::span<const std::string> command,
                                    std::span<const std::string> environment, CpioWriter& writer);

}  // namespace nitro::image
