// SPDX-License-Identifier: Apache-2.0
// A small enclave program. It prints the greeting from its environment once a second, answers every connection to vsock
// port 5005 with the greeting and the received text, and reports to its parent (CID 3, port 5006) as soon as that
// listens.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { kEchoPort = 5005, kParentPort = 5006, kParentCid = 3 };

// As in linux/vm_sockets.h, which the C library used here lacks.
struct vsock_address {
  sa_family_t family;
  unsigned short reserved;
  unsigned int port;
  unsigned int cid;
  unsigned char flags;
  unsigned char zero[3];
};
static const unsigned int kAnyCid = 0xffffffffU;

static int vsock_socket(void) {
  return socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static void answer(int connection, const char* greeting) {
  // A client that connects and sends nothing must not stop the greeting.
  struct timeval limit = {.tv_sec = 1};
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  char request[256];
  ssize_t size = read(connection, request, sizeof request - 1);
  if (size < 0) size = 0;
  request[size] = '\0';
  dprintf(connection, "%s You said: %s", greeting, request);
  close(connection);
}

// Returns 1 once the parent has been told.
static int tell_parent(const char* greeting) {
  struct vsock_address parent = {.family = AF_VSOCK, .port = kParentPort, .cid = kParentCid};
  int fd = vsock_socket();
  int told = fd >= 0 && connect(fd, (struct sockaddr*)&parent, sizeof parent) == 0 && dprintf(fd, "%s\n", greeting) > 0;
  if (fd >= 0) close(fd);
  return told;
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char* greeting = getenv("GREETING");
  if (greeting == NULL) greeting = "Hello.";

  struct vsock_address here = {.family = AF_VSOCK, .port = kEchoPort, .cid = kAnyCid};
  int listener = vsock_socket();
  if (listener < 0 || bind(listener, (struct sockaddr*)&here, sizeof here) != 0 || listen(listener, 16) != 0) {
    printf("hello: cannot listen on vsock port %d: %s\n", kEchoPort, strerror(errno));
    return 1;
  }
  int told = 0;
  for (int second = 1;; ++second) {
    printf("%s (%d)\n", greeting, second);
    if (!told) told = tell_parent(greeting);
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    long left = 1000;
    while (left > 0) {
      struct pollfd waiting = {.fd = listener, .events = POLLIN};
      if (poll(&waiting, 1, (int)left) > 0) {
        int connection = accept(listener, NULL, NULL);
        if (connection >= 0) answer(connection, greeting);
      }
      clock_gettime(CLOCK_MONOTONIC, &now);
      left = 1000 - ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000);
    }
  }
}
