// SPDX-License-Identifier: Apache-2.0
// The program in the images of the integration tests. Its first argument says what it does:
//   serve              prints "ready" and its GREETING, answers each connection to vsock port 5005 with what it was
//   sent, and connects to
//                      port 5006 of its parent once a second until that works; prints "parent said: …"
//   flood BYTES        prints that many bytes, then "flooded", then serves
//   exit STATUS        ends at once
//   registers          prints PCR0 to PCR2 as /dev/nsm tells them, then serves
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

// As in linux/vm_sockets.h and linux/nsm.h, which the C library used here does not have.
struct vsock_address {
  sa_family_t family;
  unsigned short reserved;
  unsigned int port;
  unsigned int cid;
  unsigned char flags;
  unsigned char zero[3];
};
struct nsm_buffer {
  uint64_t address;
  uint64_t length;
};
struct nsm_message {
  struct nsm_buffer request;
  struct nsm_buffer response;
};
#define NSM_RAW _IOWR(0x0a, 0, struct nsm_message)

static void print_register(int nsm, unsigned char index) {
  // {"DescribePCR": {"index": n}} in CBOR; the answer is {"DescribePCR": {"lock": bool, "data": 48 bytes}}.
  unsigned char request[] =
      "\xa1\x6b"
      "DescribePCR"
      "\xa1\x65"
      "index"
      "\x00";
  request[sizeof request - 2] = index;
  unsigned char response[4096];
  struct nsm_message message = {{(uintptr_t)request, sizeof request - 1}, {(uintptr_t)response, sizeof response}};
  if (ioctl(nsm, NSM_RAW, &message) != 0) {
    printf("nsm: %s\n", strerror(errno));
    return;
  }
  // A byte string of 48 bytes has the head 58 30.
  for (size_t i = 0; i + 50 <= message.response.length; ++i) {
    if (response[i] != 0x58 || response[i + 1] != 0x30) continue;
    printf("PCR%d: ", index);
    for (size_t j = 0; j < 48; ++j) printf("%02x", response[i + 2 + j]);
    printf("\n");
    return;
  }
  printf("nsm: no register in the answer\n");
}

static void print_registers(void) {
  int nsm = open("/dev/nsm", O_RDWR);
  if (nsm < 0) {
    printf("nsm: %s\n", strerror(errno));
    return;
  }
  for (unsigned char i = 0; i < 3; ++i) print_register(nsm, i);
  close(nsm);
}

static void flood(long bytes) {
  char line[101];
  memset(line, 'x', 99);
  line[99] = '\n';
  line[100] = '\0';
  for (; bytes > 0; bytes -= 100) fputs(line, stdout);
  printf("flooded\n");
}

static int ask_parent(void) {
  struct vsock_address parent = {.family = AF_VSOCK, .port = 5006, .cid = 3};
  int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  int done = fd >= 0 && connect(fd, (struct sockaddr*)&parent, sizeof parent) == 0;
  if (done) {
    char text[128];
    dprintf(fd, "from the enclave\n");
    ssize_t size = read(fd, text, sizeof text - 1);
    text[size > 0 ? size : 0] = '\0';
    printf("parent said: %s\n", text);
  }
  if (fd >= 0) close(fd);
  return done;
}

static void serve(void) {
  struct vsock_address here = {.family = AF_VSOCK, .port = 5005, .cid = 0xffffffffU};
  int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (listener < 0 || bind(listener, (struct sockaddr*)&here, sizeof here) != 0 || listen(listener, 16) != 0) {
    printf("listen: %s\n", strerror(errno));
    return;
  }
  const char* greeting = getenv("GREETING");
  printf("ready: %s\n", greeting != NULL ? greeting : "no greeting");
  int told = 0;
  for (;;) {
    struct pollfd waiting = {.fd = listener, .events = POLLIN};
    if (poll(&waiting, 1, told ? -1 : 300) > 0) {
      int connection = accept(listener, NULL, NULL);
      if (connection >= 0 && fork() == 0) {
        char buffer[65536];
        ssize_t size;
        while ((size = read(connection, buffer, sizeof buffer)) > 0) {
          for (ssize_t done = 0; done < size;) {
            ssize_t count = write(connection, buffer + done, (size_t)(size - done));
            if (count <= 0) _exit(1);
            done += count;
          }
        }
        _exit(0);
      }
      close(connection);
    }
    if (!told) told = ask_parent();
  }
}

int main(int argc, char** argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_IGN);
  const char* what = argc > 1 ? argv[1] : "serve";
  if (strcmp(what, "exit") == 0) return argc > 2 ? atoi(argv[2]) : 0;
  if (strcmp(what, "flood") == 0) flood(argc > 2 ? atol(argv[2]) : 1000);
  if (strcmp(what, "registers") == 0) print_registers();
  serve();
  return 1;
}
