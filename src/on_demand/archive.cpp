// SPDX-License-Identifier: Apache-2.0
// The functions of libarchive that are used, by name.
#include <archive.h>
#include <archive_entry.h>

#include <array>
#include <cstdarg>
#include <cstdio>

#include "src/on_demand/on_demand.h"

namespace {

const nitro::LibraryOnDemand& library() {
  static const nitro::LibraryOnDemand instance(NITRO_SONAME);
  return instance;
}

}  // namespace

NITRO_PASS_ON(library, archive_entry*, archive_entry_clear, (archive_entry * entry), (entry))
NITRO_PASS_ON(library, void, archive_entry_copy_pathname, (archive_entry * entry, const char* path), (entry, path))
NITRO_PASS_ON(library, void, archive_entry_copy_stat, (archive_entry * entry, const struct stat* status),
              (entry, status))
NITRO_PASS_ON(library, void, archive_entry_copy_symlink, (archive_entry * entry, const char* target), (entry, target))
NITRO_PASS_ON(library, void, archive_entry_free, (archive_entry * entry), (entry))
NITRO_PASS_ON(library, archive_entry*, archive_entry_new, (), ())
NITRO_PASS_ON(library, void, archive_entry_set_gid, (archive_entry * entry, la_int64_t id), (entry, id))
NITRO_PASS_ON(library, void, archive_entry_set_uid, (archive_entry * entry, la_int64_t id), (entry, id))
NITRO_PASS_ON(library, const char*, archive_error_string, (archive * from), (from))
NITRO_PASS_ON(library, la_int64_t, archive_filter_bytes, (archive * of, int filter), (of, filter))
NITRO_PASS_ON(library, int, archive_read_data_block,
              (archive * from, const void** buffer, size_t* size, la_int64_t* offset), (from, buffer, size, offset))
NITRO_PASS_ON(library, int, archive_read_free, (archive * from), (from))
NITRO_PASS_ON(library, archive*, archive_read_new, (), ())
NITRO_PASS_ON(library, int, archive_read_next_header, (archive * from, archive_entry** entry), (from, entry))
NITRO_PASS_ON(library, int, archive_read_open,
              (archive * from, void* context, archive_open_callback* open, archive_read_callback* read,
               archive_close_callback* close),
              (from, context, open, read, close))
NITRO_PASS_ON(library, int, archive_read_support_filter_bzip2, (archive * from), (from))
NITRO_PASS_ON(library, int, archive_read_support_filter_gzip, (archive * from), (from))
NITRO_PASS_ON(library, int, archive_read_support_filter_xz, (archive * from), (from))
NITRO_PASS_ON(library, int, archive_read_support_filter_zstd, (archive * from), (from))
NITRO_PASS_ON(library, int, archive_read_support_format_empty, (archive * from), (from))
NITRO_PASS_ON(library, int, archive_read_support_format_raw, (archive * from), (from))
NITRO_PASS_ON(library, int, archive_write_close, (archive * to), (to))
NITRO_PASS_ON(library, la_ssize_t, archive_write_data, (archive * to, const void* bytes, size_t size),
              (to, bytes, size))
NITRO_PASS_ON(library, int, archive_write_free, (archive * to), (to))
NITRO_PASS_ON(library, int, archive_write_header, (archive * to, archive_entry* entry), (to, entry))
NITRO_PASS_ON(library, archive*, archive_write_new, (), ())
NITRO_PASS_ON(library, int, archive_write_open,
              (archive * to, void* context, archive_open_callback* open, archive_write_callback* write,
               archive_close_callback* close),
              (to, context, open, write, close))
NITRO_PASS_ON(library, int, archive_write_set_bytes_per_block, (archive * to, int size), (to, size))
NITRO_PASS_ON(library, int, archive_write_set_format_gnutar, (archive * to), (to))

// The library has no variant that takes a va_list, so the text is made here; it cuts long ones too.
void(archive_set_error)(archive* of, int number, const char* format, ...) {
  static auto* const function = library().find<void(archive*, int, const char*, ...)>("archive_set_error");
  std::array<char, 512> text{};
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text.data(), text.size(), format, arguments);
  va_end(arguments);
  function(of, number, "%s", text.data());
}
