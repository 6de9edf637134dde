// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace nitro::fuzz {

/// An archive of an image, and how it is asked for.
struct ImageArchive {
  bool oci = false;                    ///< a layout of OCI; else what "docker save" writes
  std::string wanted;                  ///< name of the image in the archive; mostly empty
  std::string architecture = "amd64";  ///< of the enclave
  std::string bytes;
};

/// Makes an archive of a recipe, a text whose first line says what the rest is:
///
///   d NAME, o NAME  lines, of which an archive of docker or of OCI is made; NAME is wanted of it
///   D NAME, O NAME  the archive itself
///   R NAME          an archive of docker, whose headers get the right checksums
///
/// Digests, sizes and checksums of an archive that is made are right unless a line says otherwise, so that other bytes
/// in the recipe make another image that is read to its end. Lines that mean nothing are passed over. Lines for members
/// of the layer in work:
///
///   f NAME CONTENT    a file            F NAME BYTES     a file of so many bytes
///   d NAME            a folder          p NAME           a pipe
///   l NAME TARGET     a symbolic link   h NAME TARGET    a hard link
///   c NAME            a device          b NAME           a block device
///   g RECORD          a header of global pax records
///   L NAME, K TARGET  GNU's long name and long target for the next member
///   x RECORD          a pax record of the next member; X TEXT: the text of them all
///   =OFFSET BYTES     bytes in the header of the next member
///   v LETTER          the kind of headers from now on: u ustar, 7 the oldest, g GNU, s star
///
/// In names and contents "\n", "\0" and "\s" are a newline, a zero byte and a blank, "\xHH" is any byte, "\*N;" is all
/// that stands in front of it N times, and "\z" is zeros up to the next block. Lines for what is around them:
///
///   ~HOW      ends a layer; see below
///   >LINE     a member of the archive itself, in front of its others
///   C TEXT    the configuration         M TEXT    the manifest (docker: manifest.json)
///   I TEXT    index.json                B TEXT    one more document
///   Z HOW     what is done to the whole archive
///   A         the enclave is for arm64
///
/// Their texts may hold digests: @C of the configuration, @M of the manifest, @L0 of the first layer as it is stored,
/// @D0 as it is unpacked, @B0 of the first further document; 64 hexadecimal digits each. @c, @m, @l0 and @b0 are
/// the members of a descriptor; @d are all digests of unpacked layers, @* all layers as a manifest names them.
///
/// HOW are letters: / without the two blocks of zeros at the end; g z x b compressed (gzip, zstd, xz, bzip2), with a
/// second letter more in two streams; s behind a frame of zstd that is to be skipped; -N; without the last N bytes; ^N;
/// with a bit of byte N turned; !N; the same after the digest was taken; +TEXT with TEXT behind it.
ImageArchive archive_of(std::string_view recipe);

}  // namespace nitro::fuzz
