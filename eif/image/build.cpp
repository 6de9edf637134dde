// SPDX-License-Identifier: Apache-2.0
#include "eif/image/build.h"

#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <vector>

#include "eif/image/context.h"
#include "eif/image/scratch_folder.h"
#include "src/base/bytes.h"
#include "src/base/output_file.h"
#include "src/runtime/child.h"

namespace nitro::image {

namespace {

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

// Runs a builder to its end, with its temporary files in `scratch`. Its messages go to our stderr, its output to
// `stdout_fd`; its input comes from `input`.
Result<void> run(const std::vector<std::string>& arguments, const ScratchFolder& scratch, int stdout_fd,
                 const http::BodySource& input = nullptr) {
  ChildOptions options;
  options.arguments = {"/usr/bin/env", "TMPDIR=" + scratch.path()};
  options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
  options.stdout_fd = stdout_fd;
  options.stderr_fd = STDERR_FILENO;
  options.parent_death_signal = SIGTERM;
  NITRO_TRY(auto pipe, make_pipe());
  if (input) options.stdin_fd = pipe.first.get();
  auto child = Child::spawn(options);
  if (!child) return Failure(std::move(child).error().as(ErrorCode::kDockerImageBuild));
  pipe.first.reset();
  std::vector<std::byte> buffer(std::size_t{64} << 10);
  while (input) {
    NITRO_TRY(const auto size, input(buffer));
    // A program that stops reading has failed, and reports the reason itself.
    if (size == 0 || !write_all(pipe.second.get(), std::span(buffer).first(size))) break;
  }
  pipe.second.reset();
  NITRO_TRY(const auto status, child->wait());
  if (status.success()) return {};
  return fail(ErrorCode::kDockerImageBuild,
              quote(arguments.front() + " " + arguments.at(1)) + " " + status.to_string());
}

Result<ImageSource> build_with_program(const std::string& program, const std::string& folder, const std::string& name,
                                       const std::string& architecture, Budget& budget) {
  NITRO_TRY(const auto folder_for_program, ScratchFolder::make());
  // It gets the same archive as an engine, with the Dockerfile named separately: with "-" alone it would prefer a
  // Containerfile.
  NITRO_TRY(auto context, BuildContext::open(folder));
  const auto dockerfile = std::filesystem::absolute(folder).string() + "/Dockerfile";
  NITRO_CHECK(run({program, "build", "--arch", architecture, "-t", name, "-f", dockerfile, "-"}, folder_for_program,
                  STDERR_FILENO, [&context](std::span<std::byte> buffer) { return context.read(buffer); }));
  // The program's output goes to an unnamed file, so nothing is left behind, whatever happens.
  NITRO_TRY(Fd scratch, make_scratch_file());
  const auto save = program == "podman"
                        ? std::vector<std::string>{program, "save", "--quiet", name}
                        : std::vector<std::string>{program, "push", "--quiet", name, "docker-archive:/proc/self/fd/1"};
  NITRO_CHECK(run(save, folder_for_program, scratch.get()));
  NITRO_TRY(const auto size, file_size(scratch.get()));
  auto source = read_docker_archive(Extent{std::make_shared<const Fd>(std::move(scratch)), 0, size}, {}, budget);
  if (!source) return fail_within("what " + program + " has built", std::move(source).error());
  source->name = name;
  return source;
}

}  // namespace

Result<ImageSource> build_image(const std::string& folder, const std::string& name, const SourceOptions& options,
                                Budget& budget, const Engine::Listener& listener) {
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0)
    return fail_errno(ErrorCode::kDockerImageBuild, "the folder " + quote(folder));
  if (!S_ISDIR(status.st_mode)) return fail(ErrorCode::kDockerImageBuild, quote(folder) + " is not a folder");
  if (::access((folder + "/Dockerfile").c_str(), R_OK) != 0) {
    return fail_errno(ErrorCode::kDockerImageBuild, "the Dockerfile in " + quote(folder));
  }
  const auto engine = Engine::find_any();
  if (engine) {
    NITRO_TRY(auto context, BuildContext::open(folder));
    NITRO_CHECK(engine->build([&context](std::span<std::byte> buffer) { return context.read(buffer); }, name,
                              options.architecture, listener));
    return engine->open(name, options, budget);
  }
  for (const char* program : {"buildah", "podman"}) {
    if (!is_installed(program)) continue;
    listener(engine.error().message() + "; building with " + program);
    return build_with_program(program, folder, name, options.architecture, budget);
  }
  return fail(ErrorCode::kDockerImageBuild, engine.error().message() + ", and neither buildah nor podman is installed");
}

}  // namespace nitro::image
