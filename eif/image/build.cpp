// SPDX-License-Identifier: Apache-2.0
#include "eif/image/build.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <vector>

#include "nitro/bytes.h"
#include "nitro/child.h"
#include "nitro/output_file.h"

namespace nitro::image {

namespace {

struct FreeReader {
  void operator()(archive* reader) const { archive_read_free(reader); }
};
struct FreeWriter {
  void operator()(archive* writer) const { archive_write_free(writer); }
};
struct FreeEntry {
  void operator()(archive_entry* entry) const { archive_entry_free(entry); }
};

Failure cannot_pack(const std::string& folder, archive* failed) {
  const char* reason = archive_error_string(failed);
  return fail(ErrorCode::kDockerImageBuild,
              "packing the folder " + quote(folder) + ": " + (reason != nullptr ? reason : "no reason given"));
}

bool is_installed(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::string_view folders = path != nullptr ? path : "";
  while (!folders.empty()) {
    const auto colon = folders.find(':');
    const auto file = std::string(folders.substr(0, colon)) + "/" + program;
    if (::access(file.c_str(), X_OK) == 0) return true;
    folders = colon == std::string_view::npos ? std::string_view() : folders.substr(colon + 1);
  }
  return false;
}

// What the program says goes to our stderr, and its output to `stdout_fd`.
Result<void> run(const std::vector<std::string>& arguments, int stdout_fd) {
  ChildOptions options;
  options.arguments = arguments;
  options.stdout_fd = stdout_fd;
  options.stderr_fd = STDERR_FILENO;
  auto child = Child::spawn(options);
  if (!child) return Failure(std::move(child).error().as(ErrorCode::kDockerImageBuild));
  NITRO_TRY(const auto status, child->wait());
  if (status.success()) return {};
  return fail(ErrorCode::kDockerImageBuild,
              quote(arguments.front() + " " + arguments.at(1)) + " " + status.to_string());
}

Result<ImageSource> build_with_program(const std::string& program, const std::string& folder, const std::string& name) {
  NITRO_CHECK(run({program, "build", "-t", name, "-f", folder + "/Dockerfile", folder}, STDERR_FILENO));
  // The archive goes to a file without a name, which the program knows as its output: nothing is left behind, whatever
  // happens.
  NITRO_TRY(Fd scratch, make_scratch_file());
  const auto save = program == "podman"
                        ? std::vector<std::string>{program, "save", "--quiet", name}
                        : std::vector<std::string>{program, "push", "--quiet", name, "docker-archive:/dev/stdout"};
  NITRO_CHECK(run(save, scratch.get()));
  NITRO_TRY(const auto size, file_size(scratch.get()));
  auto source = read_docker_archive(Extent{std::make_shared<const Fd>(std::move(scratch)), 0, size}, {});
  if (!source) return fail_within("what " + program + " has built", std::move(source).error());
  source->name = name;
  return source;
}

}  // namespace

Result<Extent> pack_folder(const std::string& folder) {
  NITRO_TRY(Fd scratch, make_scratch_file());
  const std::unique_ptr<archive, FreeWriter> writer(archive_write_new());
  const std::unique_ptr<archive, FreeReader> reader(archive_read_disk_new());
  const std::unique_ptr<archive_entry, FreeEntry> entry(archive_entry_new());
  if (!writer || !reader || !entry) throw std::bad_alloc();
  archive_write_set_format_pax_restricted(writer.get());
  if (archive_write_open_fd(writer.get(), scratch.get()) != ARCHIVE_OK) return cannot_pack(folder, writer.get());
  archive_read_disk_set_symlink_physical(reader.get());
  archive_read_disk_set_behavior(reader.get(),
                                 ARCHIVE_READDISK_NO_XATTR | ARCHIVE_READDISK_NO_ACL | ARCHIVE_READDISK_NO_FFLAGS);
  if (archive_read_disk_open(reader.get(), folder.c_str()) != ARCHIVE_OK) return cannot_pack(folder, reader.get());

  for (;;) {
    archive_entry_clear(entry.get());
    const int next = archive_read_next_header2(reader.get(), entry.get());
    if (next == ARCHIVE_EOF) break;
    if (next != ARCHIVE_OK) return cannot_pack(folder, reader.get());
    archive_read_disk_descend(reader.get());
    const std::string path = archive_entry_pathname(entry.get());
    if (path.size() <= folder.size()) continue;  // the folder itself
    auto relative = path.substr(folder.size());
    relative.erase(0, relative.find_first_not_of('/'));
    archive_entry_copy_pathname(entry.get(), relative.c_str());
    if (archive_entry_filetype(entry.get()) == AE_IFSOCK) continue;
    if (archive_write_header(writer.get(), entry.get()) != ARCHIVE_OK) return cannot_pack(folder, writer.get());
    const void* data = nullptr;
    std::size_t size = 0;
    la_int64_t offset = 0;
    if (archive_entry_filetype(entry.get()) != AE_IFREG) continue;
    la_int64_t written = 0;
    for (;;) {
      const int block = archive_read_data_block(reader.get(), &data, &size, &offset);
      if (block == ARCHIVE_EOF) break;
      if (block != ARCHIVE_OK) return cannot_pack(folder, reader.get());
      // Sparse files arrive with holes, the archive has none.
      constexpr std::array<char, 4096> kZeros{};
      while (written < offset) {
        const auto hole = std::min<la_int64_t>(offset - written, static_cast<la_int64_t>(kZeros.size()));
        if (archive_write_data(writer.get(), kZeros.data(), static_cast<std::size_t>(hole)) != hole) {
          return cannot_pack(folder, writer.get());
        }
        written += hole;
      }
      if (archive_write_data(writer.get(), data, size) != static_cast<la_ssize_t>(size))
        return cannot_pack(folder, writer.get());
      written += static_cast<la_int64_t>(size);
    }
  }
  if (archive_write_close(writer.get()) != ARCHIVE_OK) return cannot_pack(folder, writer.get());
  NITRO_TRY(const auto size, file_size(scratch.get()));
  return Extent{std::make_shared<const Fd>(std::move(scratch)), 0, size};
}

Result<ImageSource> build_image(const std::string& folder, const std::string& name, const Engine::Listener& listener) {
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0)
    return fail_errno(ErrorCode::kDockerImageBuild, "the folder " + quote(folder));
  if (!S_ISDIR(status.st_mode)) return fail(ErrorCode::kDockerImageBuild, quote(folder) + " is not a folder");
  if (::access((folder + "/Dockerfile").c_str(), R_OK) != 0) {
    return fail_errno(ErrorCode::kDockerImageBuild, "the Dockerfile in " + quote(folder));
  }
  const auto engine = Engine::find();
  if (engine) {
    NITRO_TRY(const auto context, pack_folder(folder));
    NITRO_CHECK(engine->build(context, name, listener));
    return engine->open(name);
  }
  for (const char* program : {"buildah", "podman"}) {
    if (!is_installed(program)) continue;
    listener(engine.error().message() + "; building with " + program);
    return build_with_program(program, folder, name);
  }
  return fail(ErrorCode::kDockerImageBuild, engine.error().message() + ", and neither buildah nor podman is installed");
}

}  // namespace nitro::image
