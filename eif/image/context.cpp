// SPDX-License-Identifier: Apache-2.0
#include "eif/image/context.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <fts.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

#include "eif/image/ignore_file.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"

namespace nitro::image {

namespace {

constexpr std::size_t kPieceBytes = std::size_t{256} << 10;

struct CloseWalk {
  void operator()(FTS* walk) const { ::fts_close(walk); }
};
struct FreeWriter {
  void operator()(archive* writer) const { archive_write_free(writer); }
};
struct FreeEntry {
  void operator()(archive_entry* entry) const { archive_entry_free(entry); }
};

int by_name(const FTSENT** a, const FTSENT** b) {
  return std::strcmp((*a)->fts_name, (*b)->fts_name);
}

Failure cannot_read(std::string_view path, int system_errno) {
  return fail_errno(ErrorCode::kDockerImageBuild, "reading " + quote(path), system_errno);
}

// Receives what libarchive writes; called only from archive_write_*().
la_ssize_t collect(archive*, void* context, const void* bytes, std::size_t size) {
  static_cast<std::string*>(context)->append(static_cast<const char*>(bytes), size);
  return static_cast<la_ssize_t>(size);
}

}  // namespace

struct BuildContext::Parts {
  std::string folder;
  IgnoreRules rules;
  // The state of the rules in each folder from the top down to the current position of the walk; [0] is the top.
  std::vector<IgnoreRules::FolderState> states{{}};
  std::unique_ptr<FTS, CloseWalk> walk;
  std::string ready;                            // bytes of the archive that were not requested yet
  std::size_t ready_at = 0;                     // the first of them
  std::unique_ptr<archive, FreeWriter> writer;  // writes into `ready` until its end
  std::unique_ptr<archive_entry, FreeEntry> entry;
  bool ended = false;
  Fd file;  // the one being sent, and what is left of it
  std::string file_path;
  std::uint64_t left_bytes = 0;
  std::vector<char> piece = std::vector<char>(kPieceBytes);

  [[nodiscard]] Failure cannot_pack() const {
    const char* reason = archive_error_string(writer.get());
    return fail(ErrorCode::kDockerImageBuild,
                "packing the folder " + quote(folder) + ": " + (reason != nullptr ? reason : "no reason given"));
  }

  // Produces more of the archive: at least one piece, unless it has ended.
  Result<void> go_on() {
    if (file) return send_piece();
    errno = 0;
    FTSENT* const found = ::fts_read(walk.get());
    if (found == nullptr) {
      if (errno != 0) return cannot_read(folder, errno);
      if (archive_write_close(writer.get()) != ARCHIVE_OK) return cannot_pack();
      ended = true;
      return {};
    }
    return visit(*found);
  }

  Result<void> visit(FTSENT& found) {
    if (found.fts_level == 0) {
      if (found.fts_info == FTS_DNR || found.fts_info == FTS_NS) return cannot_read(folder, found.fts_errno);
      return {};
    }
    const auto depth = static_cast<std::size_t>(found.fts_level);
    std::string path = std::string(found.fts_path).substr(folder.size());
    path.erase(0, path.find_first_not_of('/'));
    switch (found.fts_info) {
      case FTS_DP:
        return {};
      case FTS_DNR:
        // Its header was sent when it was found, but its content cannot be.
        return cannot_read(found.fts_path, found.fts_errno);
      default:
        break;
    }
    states.resize(depth);
    auto verdict = rules.judge(path, states.back());
    const bool is_folder = found.fts_info == FTS_D;
    if (is_folder) states.push_back(std::move(verdict.state));
    if (verdict.ignored) {
      if (is_folder && !rules.has_exceptions_in(path)) ::fts_set(walk.get(), &found, FTS_SKIP);
      return {};
    }
    switch (found.fts_info) {
      case FTS_D:
      case FTS_F:
      case FTS_DEFAULT:
        return send(found.fts_path, path, *found.fts_statp);
      case FTS_SLNONE:
      case FTS_DC:
        return send_link(found.fts_path, path);
      default:
        return cannot_read(found.fts_path, found.fts_errno);
    }
  }

  Result<void> send(const std::string& full_path, const std::string& path, const struct stat& known) {
    if (S_ISSOCK(known.st_mode)) return {};
    struct stat status = known;
    if (S_ISREG(status.st_mode)) {
      // Opened without blocking, in case a FIFO has taken its place.
      auto opened = open_file(full_path, O_RDONLY | O_NONBLOCK, 0, ErrorCode::kDockerImageBuild);
      if (!opened) return Failure(std::move(opened).error());
      if (::fstat(opened->get(), &status) != 0) return cannot_read(full_path, errno);
      if (!S_ISREG(status.st_mode)) {
        return fail(ErrorCode::kDockerImageBuild, quote(full_path) + " changes while it is read");
      }
      file = *std::move(opened);
      file_path = full_path;
      left_bytes = static_cast<std::uint64_t>(status.st_size);
    }
    NITRO_CHECK(send_header(path, status, nullptr));
    if (left_bytes == 0) file.reset();
    return {};
  }

  Result<void> send_link(const std::string& full_path, const std::string& path) {
    struct stat status {};
    std::array<char, PATH_MAX> target{};
    if (::lstat(full_path.c_str(), &status) != 0) return cannot_read(full_path, errno);
    const auto size = ::readlink(full_path.c_str(), target.data(), target.size() - 1);
    if (size < 0) return cannot_read(full_path, errno);
    return send_header(path, status, target.data());
  }

  Result<void> send_header(const std::string& path, const struct stat& status, const char* link_target) {
    archive_entry_clear(entry.get());
    archive_entry_copy_stat(entry.get(), &status);
    archive_entry_copy_pathname(entry.get(), path.c_str());
    archive_entry_set_uid(entry.get(), 0);
    archive_entry_set_gid(entry.get(), 0);
    if (link_target != nullptr) archive_entry_copy_symlink(entry.get(), link_target);
    // A warning concerns names outside the locale's character set; their bytes are sent unchanged.
    if (archive_write_header(writer.get(), entry.get()) < ARCHIVE_WARN) return cannot_pack();
    return {};
  }

  Result<void> send_piece() {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(left_bytes, piece.size()));
    const ssize_t count = ::read(file.get(), piece.data(), wanted);
    if (count < 0) {
      if (errno == EINTR) return {};
      return cannot_read(file_path, errno);
    }
    if (count == 0) return fail(ErrorCode::kDockerImageBuild, quote(file_path) + " became shorter while it was read");
    if (archive_write_data(writer.get(), piece.data(), static_cast<std::size_t>(count)) != count) return cannot_pack();
    left_bytes -= static_cast<std::uint64_t>(count);
    if (left_bytes == 0) file.reset();
    return {};
  }
};

BuildContext::BuildContext(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
BuildContext::BuildContext(BuildContext&&) noexcept = default;
BuildContext::~BuildContext() = default;

Result<BuildContext> BuildContext::open(const std::string& folder) {
  auto parts = std::make_unique<Parts>();
  parts->folder = folder;
  while (parts->folder.size() > 1 && parts->folder.ends_with('/')) parts->folder.pop_back();
  const auto ignore_file = parts->folder + "/.dockerignore";
  if (::access(ignore_file.c_str(), F_OK) == 0) {
    auto text = read_text_file(ignore_file);
    if (!text) return Failure(std::move(text).error().as(ErrorCode::kDockerImageBuild));
    auto rules = IgnoreRules::parse(*text);
    if (!rules) return fail_within(quote(ignore_file), std::move(rules).error());
    parts->rules = *std::move(rules);
    // The builder reads both; if they are ignored, it removes them from the build context itself.
    parts->rules.keep(".dockerignore");
    parts->rules.keep("Dockerfile");
  }
  std::array<char*, 2> roots{parts->folder.data(), nullptr};
  parts->walk.reset(::fts_open(roots.data(), FTS_LOGICAL | FTS_NOCHDIR, by_name));
  if (!parts->walk) return cannot_read(folder, errno);
  parts->writer.reset(archive_write_new());
  parts->entry.reset(archive_entry_new());
  if (!parts->writer || !parts->entry) throw std::bad_alloc();
  // The format of the reference: names are bytes, times are whole seconds.
  archive_write_set_format_gnutar(parts->writer.get());
  archive_write_set_bytes_per_block(parts->writer.get(), 0);
  if (archive_write_open(parts->writer.get(), &parts->ready, nullptr, collect, nullptr) != ARCHIVE_OK) {
    return parts->cannot_pack();
  }
  return BuildContext(std::move(parts));
}

Result<std::size_t> BuildContext::read(std::span<std::byte> buffer) {
  auto& parts = *parts_;
  while (parts.ready_at == parts.ready.size() && !parts.ended) {
    parts.ready.clear();
    parts.ready_at = 0;
    NITRO_CHECK(parts.go_on());
  }
  const auto size = std::min(buffer.size(), parts.ready.size() - parts.ready_at);
  std::memcpy(buffer.data(), parts.ready.data() + parts.ready_at, size);
  parts.ready_at += size;
  return size;
}

}  // namespace nitro::image
