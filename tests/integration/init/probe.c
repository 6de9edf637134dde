// SPDX-License-Identifier: Apache-2.0
// The command inside the enclaves of the init tests. Its second argument says what it does; see main().

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

static void show_words(int argc, char** argv) {
  for (int i = 0; i < argc; i++) printf("argument %d [%s]\n", i, argv[i]);
  for (char** variable = environ; *variable != NULL; variable++) printf("variable [%s]\n", *variable);
}

static void show_process(void) {
  sigset_t blocked;
  sigprocmask(SIG_BLOCK, NULL, &blocked);
  int count = 0;
  for (int s = 1; s < 32; s++) count += sigismember(&blocked, s) == 1;
  char folder[256] = "";
  getcwd(folder, sizeof folder);
  int terminal = open("/dev/tty", O_RDWR);
  printf("session leader %d, parent %d, blocked signals %d, folder %s, controlling terminal %s\n",
         getsid(0) == getpid(), getppid(), count, folder, terminal < 0 ? "none" : "yes");
  for (int fd = 0; fd < 16; fd++) {
    char path[32], target[256] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (readlink(path, target, sizeof target - 1) > 0 && fd != terminal) printf("descriptor %d is %s\n", fd, target);
  }
}

static void show_files(void) {
  char line[512];
  FILE* mounts = fopen("/proc/self/mounts", "r");
  while (mounts != NULL && fgets(line, sizeof line, mounts)) printf("mount %s", line);
  static const char* const links[] = {"/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr"};
  for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
    char target[256] = "";
    if (readlink(links[i], target, sizeof target - 1) > 0) printf("link %s -> %s\n", links[i], target);
  }
  static const char* const paths[] = {"/cmd",      "/env",      "/init",      "/nsm.ko",
                                      "/dev/null", "/dev/ptmx", "/dev/vsock", "/dev/nsm"};
  for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
    printf("%s %s\n", access(paths[i], F_OK) == 0 ? "present" : "absent", paths[i]);
  }
  int pseudo_terminal = posix_openpt(O_RDWR | O_NOCTTY);
  printf("pseudo terminal %s\n", pseudo_terminal >= 0 ? ptsname(pseudo_terminal) : strerror(errno));
}

// Leaves 50 orphans, all of which end, and counts the processes that are still there.
static void make_orphans(void) {
  for (int i = 0; i < 50; i++) {
    pid_t middle = fork();
    if (middle == 0) {
      if (fork() == 0) {
        while (getppid() != 1) usleep(1000);
        _exit(0);
      }
      _exit(0);
    }
    waitpid(middle, NULL, 0);
  }
  int zombies = -1;
  for (int i = 0; i < 100 && zombies != 0; i++) {
    usleep(50000);
    zombies = 0;
    for (int pid = 2; pid < 400; pid++) {
      char path[32], text[256] = "";
      snprintf(path, sizeof path, "/proc/%d/stat", pid);
      FILE* stat = fopen(path, "r");
      if (stat == NULL) continue;
      if (fread(text, 1, sizeof text - 1, stat) > 0 && strstr(text, "(probe)") != NULL && pid != getpid()) zombies++;
      fclose(stat);
    }
  }
  printf("orphans left %d\n", zombies);
}

static void show_signal(int signal_number) {
  printf("got signal %d\n", signal_number);
  exit(9);
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char* what = argc > 1 ? argv[1] : "words";
  if (strcmp(what, "words") == 0) show_words(argc, argv);
  if (strcmp(what, "process") == 0) show_process();
  if (strcmp(what, "files") == 0) show_files();
  if (strcmp(what, "orphans") == 0) make_orphans();
  if (strcmp(what, "status") == 0) return atoi(argv[2]);
  if (strcmp(what, "signal") == 0) raise(atoi(argv[2]));
  if (strcmp(what, "flood") == 0) {  // fills the console's queue right before the end
    for (int i = 0; i < 60; i++) printf("line %d of a command that ends at once ............\n", i);
  }
  if (strcmp(what, "tell-init") == 0) {
    signal(SIGTERM, show_signal);
    kill(1, SIGTERM);
    sleep(10);
    return 1;
  }
  return 0;
}
