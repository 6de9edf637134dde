// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <array>

#include "nitro/error.h"

namespace nitro {
namespace {

constexpr std::string_view kReportIt = "Report it with the log file named in the output.";
constexpr std::string_view kSeeCause = "The sentence after the code names the cause.";

constexpr std::array kTable = {
    ErrorDescription{ErrorCode::kUnspecified, "Unspecified error", "An error without a code of its own.", kReportIt},
    ErrorDescription{ErrorCode::kMissingArgument, "Missing argument", "A required option is missing.",
                     "Add the named option; `nitro-cli COMMAND --help` lists them all."},
    ErrorDescription{ErrorCode::kConflictingArgument, "Conflicting arguments",
                     "Two options exclude each other, such as --cpu-count and --cpu-ids.", "Omit one of them."},
    ErrorDescription{ErrorCode::kInvalidArgument, "Invalid argument",
                     "The value of an option is invalid: a malformed number or size, a reserved CID, or an "
                     "unusable name.",
                     "Correct the value that the message quotes."},
    ErrorDescription{ErrorCode::kSocketPairCreation, "Socket pair not created",
                     "The socket pair between the command and its new enclave process could not be created.",
                     "Check the limit of open files (`ulimit -n`)."},
    ErrorDescription{ErrorCode::kProcessSpawn, "Process not started",
                     "A process that the command needs could not be started.",
                     "Check that the named program is installed, and the limits of processes and memory."},
    ErrorDescription{ErrorCode::kDaemonizeProcess, "Process not detached",
                     "The enclave process could not detach itself from the command that started it.",
                     "Check the limits of processes and memory."},
    ErrorDescription{
        ErrorCode::kReadFromDisk, "Folder not readable",
        "The folder with the sockets of the enclave processes (usually /run/nitro_enclaves) could not be read.",
        "Check that it exists and is readable, or set NITRO_CLI_SOCKETS_PATH to another one."},
    ErrorDescription{ErrorCode::kUnusableConnection, "Connection not usable",
                     "A command could not be read: the connection is closed or was never open.", kReportIt},
    ErrorDescription{ErrorCode::kSocketClose, "Connection not closed", "A connection could not be shut down cleanly.",
                     kReportIt},
    ErrorDescription{ErrorCode::kSocketConnectTimeout, "Time limit of a socket not set",
                     "The time limit for connecting to a console could not be set.",
                     "Check that the kernel supports vsock."},
    ErrorDescription{ErrorCode::kSocket, "Socket error",
                     "An operation on a socket failed. For console and terminate-enclave this usually means that no "
                     "enclave has the given ID or name.",
                     "List the enclaves with `nitro-cli describe-enclaves`."},
    ErrorDescription{ErrorCode::kEpoll, "Event polling failed",
                     "The kernel refused to watch a descriptor, or to wait for events.",
                     "Check the limits of open files and of epoll watches (/proc/sys/fs/epoll/max_user_watches)."},
    ErrorDescription{ErrorCode::kInotify, "File watching failed",
                     "The socket file of an enclave process could not be watched.",
                     "Check the limits in /proc/sys/fs/inotify."},
    ErrorDescription{ErrorCode::kInvalidCommand, "Invalid command",
                     "An enclave process received an unknown command, or arguments that do not fit the command.",
                     "Use the same nitro-cli that started the enclave."},
    ErrorDescription{ErrorCode::kLockAcquire, "Lock not taken", "A lock on a shared resource could not be taken.",
                     kReportIt},
    ErrorDescription{ErrorCode::kThreadJoin, "Thread did not finish", "A thread could not be waited for.", kReportIt},
    ErrorDescription{
        ErrorCode::kSerde, "Data not understood",
        "A JSON file, or a message between the command and an enclave process, is invalid.",
        "Correct the file that the message names; for messages, use one version of nitro-cli for all enclaves."},
    ErrorDescription{
        ErrorCode::kFilePermissions, "Permissions not changed",
        "The permissions of a file could not be set, for example because this user does not own the log file.",
        "Check who owns the named file."},
    ErrorDescription{
        ErrorCode::kFileOperation, "File operation failed",
        "Opening, reading, writing or creating a file failed: the image of run-enclave, the input of pcr, the parts of "
        "eif_build, an output, the kernel's command line of build-enclave, the archive or layout that --docker-uri "
        "names, the log and its folder, or the device /dev/nitro_enclaves. A file that describe-eif cannot read is "
        "E35, one that sign-eif cannot read is E60, and the other parts of build-enclave are E48.",
        "Check that the named file exists, that this user may use it, and that the disk is not full; for the log, that "
        "NITRO_CLI_LOGS_PATH, or /var/log/nitro_enclaves, is a folder that this user may write."},
    ErrorDescription{ErrorCode::kInvalidCpuConfiguration, "Invalid CPU configuration",
                     "The same CPU was requested more than once.", "Name each CPU once in --cpu-ids."},
    ErrorDescription{ErrorCode::kNoSuchCpuInPool, "CPU not in the pool",
                     "A requested CPU is not in the pool for enclaves.",
                     "Choose from /sys/module/nitro_enclaves/parameters/ne_cpus, or change the pool in "
                     "/etc/nitro_enclaves/allocator.yaml."},
    ErrorDescription{
        ErrorCode::kInsufficientCpus, "Not enough CPUs", "More CPUs were requested than the pool has left.",
        "Request fewer, terminate other enclaves, or enlarge the pool in /etc/nitro_enclaves/allocator.yaml."},
    ErrorDescription{ErrorCode::kMalformedCpuId, "CPU list not understood", "The system's list of CPUs is malformed.",
                     kReportIt},
    ErrorDescription{ErrorCode::kCpu, "CPU error",
                     "A range in a list of CPUs is invalid, or the CPUs cannot be determined.", kSeeCause},
    ErrorDescription{ErrorCode::kNoSuchHugepageFlag, "Unknown huge page size",
                     "This machine has no huge pages of the requested size.",
                     "Use a size that /sys/kernel/mm/hugepages lists."},
    ErrorDescription{ErrorCode::kInsufficientMemoryRequested, "Too little memory requested",
                     "An enclave needs at least 64 MiB, and four times the size of its image file.",
                     "Set --memory to at least the amount that the message names."},
    ErrorDescription{
        ErrorCode::kInsufficientMemoryAvailable, "Too little memory available",
        "The machine does not have the requested memory; enclaves on the device need it in free huge pages.",
        "Request less, terminate other enclaves, or raise memory_mib in /etc/nitro_enclaves/allocator.yaml."},
    ErrorDescription{ErrorCode::kInvalidEnclaveFd, "Enclave not created",
                     "The driver did not return a descriptor for a new enclave.",
                     "Check the kernel log (`dmesg`) for messages of nitro_enclaves."},
    ErrorDescription{ErrorCode::kIoctl, "Driver call failed", "A call of the Nitro Enclaves driver failed.", kSeeCause},
    ErrorDescription{ErrorCode::kIoctlImageLoadInfo, "Image offset unknown",
                     "The driver did not say where in the enclave's memory to load the image.", kSeeCause},
    ErrorDescription{ErrorCode::kIoctlSetMemoryRegion, "Memory region refused",
                     "The driver refused a region of memory for the enclave.", kSeeCause},
    ErrorDescription{ErrorCode::kIoctlAddVcpu, "CPU refused", "The driver refused to give a CPU to the enclave.",
                     kSeeCause},
    ErrorDescription{ErrorCode::kIoctlEnclaveStart, "Start refused", "The driver did not start the enclave.",
                     kSeeCause},
    ErrorDescription{ErrorCode::kMemoryOverflow, "Image does not fit",
                     "The position of the image and its size exceed the memory of the enclave.",
                     "Give the enclave more memory."},
    ErrorDescription{ErrorCode::kEifParsing, "Image file not understood",
                     "The enclave image file is damaged, truncated, or not an enclave image.",
                     "Copy or build the file again, and check it with `nitro-cli describe-eif`."},
    ErrorDescription{
        ErrorCode::kEnclaveBoot, "Enclave did not boot",
        "The enclave ended before it had booted, or did not send its heartbeat on vsock port 9000 in time.",
        "Start it with --debug-mode and look at its console; check the image with `nitro-cli describe-eif`."},
    ErrorDescription{ErrorCode::kEnclaveEventWait, "Enclave not watched", "Waiting for events of the enclave failed.",
                     kSeeCause},
    ErrorDescription{ErrorCode::kCommandNotExecuted, "Command not executed",
                     "At least one enclave process reported a failure.",
                     "Its own message is above this one; its log has more."},
    ErrorDescription{
        ErrorCode::kEnclaveProcessConnection, "Enclave process not reached",
        "At least one enclave process ended, did not answer in time, or could not be connected to.",
        "A message above this one says more; `nitro-cli describe-enclaves` lists the enclaves that answer."},
    ErrorDescription{ErrorCode::kSocketPathNotFound, "Socket path not found",
                     "The path of an enclave's socket could not be derived from its ID.", "Check the enclave ID."},
    ErrorDescription{ErrorCode::kEnclaveProcessSendReply, "Reply not sent",
                     "An enclave process could not send its reply: the command that asked is gone.",
                     "Run the command again."},
    ErrorDescription{ErrorCode::kEnclaveMmap, "Enclave memory not mapped",
                     "Memory for the enclave could not be mapped.", "Check the huge pages in /proc/meminfo."},
    ErrorDescription{ErrorCode::kEnclaveMunmap, "Enclave memory not unmapped",
                     "Memory of an enclave could not be released.", kReportIt},
    ErrorDescription{ErrorCode::kConsoleConnection, "Console not reached",
                     "There is no connection to the enclave's console. Only enclaves in debug mode have one.",
                     "Start the enclave with --debug-mode."},
    ErrorDescription{ErrorCode::kConsoleRead, "Console not readable", "Reading from an enclave's console failed.",
                     kSeeCause},
    ErrorDescription{ErrorCode::kConsoleWriteOutput, "Console output not written",
                     "The output of an enclave's console could not be written.", "Check where the output goes."},
    ErrorDescription{ErrorCode::kIntegerParsing, "Number not understood", "A CID is not a number in the valid range.",
                     kSeeCause},
    ErrorDescription{ErrorCode::kEifBuilding, "Image not built",
                     "The enclave image file could not be built, or the configured container engine does not answer.",
                     kSeeCause},
    ErrorDescription{
        ErrorCode::kDockerImageBuild, "Container image not built",
        "The container image could not be built from the given folder.",
        "Check that the folder has a Dockerfile, and that a container daemon, buildah or podman is available."},
    ErrorDescription{
        ErrorCode::kDockerImagePull, "Container image not found",
        "There is no container image with the name in --docker-uri: the name is malformed, no engine or registry can "
        "be reached or has it, credentials are refused or cannot be read, or an archive or layout holds another image. "
        "A file of an archive or layout that cannot be opened or read is E19, invalid content E48, and a failed build "
        "with --docker-dir E49.",
        "Check the name, and that the daemon, archive or registry can be reached."},
    ErrorDescription{ErrorCode::kArtifactsPathNotSet, "No folder for artifacts",
                     "There is no folder for intermediate files of the build.", "Set HOME or NITRO_CLI_ARTIFACTS."},
    ErrorDescription{ErrorCode::kBlobsPathNotSet, "No folder for blobs",
                     "The folder with the kernel and init is not known.", "Set NITRO_CLI_BLOBS."},
    ErrorDescription{ErrorCode::kClockSkew, "Clock went backwards",
                     "The time between two reads of a console could not be measured.",
                     "Check the clock of the machine."},
    ErrorDescription{ErrorCode::kSignalMasking, "Signals not blocked", "Signals could not be blocked.", kReportIt},
    ErrorDescription{ErrorCode::kSignalUnmasking, "Signals not unblocked", "Signals could not be unblocked.",
                     kReportIt},
    ErrorDescription{ErrorCode::kLogger, "Log not set up",
                     "The AWS tools use this code when their log writer does not start. This tool does not use it: a "
                     "log, or a folder for it, that cannot be opened or created is E19, and a log whose permissions "
                     "cannot be set is E18, as in the AWS tools.",
                     "Check the settings RUST_LOG and NITRO_CLI_LOGS_PATH."},
    ErrorDescription{ErrorCode::kHasher, "Measurement failed", "The hash of a file could not be computed.", kSeeCause},
    ErrorDescription{ErrorCode::kEnclaveNaming, "Enclave name not usable",
                     "No enclave, or more than one, has the given name; or a name for a new enclave is empty, too "
                     "long, or contains invalid characters.",
                     "List the enclaves with `nitro-cli describe-enclaves`, or give another name."},
    ErrorDescription{ErrorCode::kSignatureChecker, "Image not trusted",
                     "The image is damaged or truncated, its signature does not match its content, or the "
                     "certificate is not currently valid.",
                     "Check the file with `nitro-cli describe-eif`; copy, build or sign it again."},
    ErrorDescription{ErrorCode::kSigning, "Signing failed",
                     "The image could not be signed: the key or the certificate cannot be read, they do not match, the "
                     "key is of a type that cannot sign images, or the key service refused.",
                     "Use an EC key (P-256, P-384, P-521) and its certificate, both PEM, or refresh the credentials of "
                     "the key service."},
};

constexpr bool in_order() {
  for (std::size_t i = 0; i < kTable.size(); ++i) {
    if (static_cast<std::size_t>(kTable[i].code) != i) return false;
  }
  return kTable.size() == static_cast<std::size_t>(ErrorCode::kSigning) + 1;
}
static_assert(in_order(), "the index of a row is its code");

}  // namespace

std::span<const ErrorDescription> error_table() {
  return kTable;
}

const ErrorDescription& describe(ErrorCode code) {
  return kTable.at(static_cast<std::size_t>(code));
}

std::string tag(ErrorCode code) {
  return fmt::format("E{:02}", static_cast<unsigned>(code));
}

}  // namespace nitro
