/* SPDX-License-Identifier: Apache-2.0
 *
 * The whole user space of the guest in the tests of the local machine: says hello as the enclave's init does, then
 * serves what the tests ask for on vsock ports. Static, no library of ours. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kParent = 3, kHello = 9000, kMaxClients = 1100 };

static int connect_parent(uint32_t cid, uint32_t port) {
  struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
  int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (fd < 0) return -1;
  if (connect(fd, (struct sockaddr*)&address, sizeof address) != 0) {
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
  }
  return fd;
}

static int listen_on(uint32_t port) {
  struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
  int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (fd < 0 || bind(fd, (struct sockaddr*)&address, sizeof address) != 0 || listen(fd, 1024) != 0) {
    perror("listen");
    exit(1);
  }
  return fd;
}

static int write_all(int fd, const void* bytes, size_t size) {
  const char* at = bytes;
  while (size > 0) {
    ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
    if (n < 0) return -1;
    at += n;
    size -= (size_t)n;
  }
  return 0;
}

static int read_all(int fd, void* bytes, size_t size) {
  char* at = bytes;
  while (size > 0) {
    ssize_t n = read(fd, at, size);
    if (n <= 0) return -1;
    at += n;
    size -= (size_t)n;
  }
  return 0;
}

/* The bytes of bulk transfers: 64-bit counters. The sum of the words tells loss and corruption, the position tells
 * order. */
static uint64_t buffer[8192];
static uint64_t fill(uint64_t counter, size_t words) {
  for (size_t i = 0; i < words; i++) buffer[i] = counter++;
  return counter;
}

static int send_pattern(int fd, uint64_t length) {
  uint64_t counter = 0;
  while (length > 0) {
    size_t size = length < sizeof buffer ? (size_t)length : sizeof buffer;
    counter = fill(counter, (size + 7) / 8);
    if (write_all(fd, buffer, size) != 0) return -1;
    length -= size;
  }
  return 0;
}

/* Reads to the end; the number of bytes, or ~0 when one was wrong. */
static uint64_t receive_pattern(int fd) {
  uint64_t total = 0;
  static char bytes[65536];
  for (;;) {
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n < 0) return ~0ull;
    if (n == 0) return total;
    for (ssize_t i = 0; i < n;) {
      uint64_t at = total + (uint64_t)i;
      if (at % 8 == 0 && n - i >= 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        if (word != at / 8) return ~0ull;
        i += 8;
      } else {
        if ((unsigned char)bytes[i] != (unsigned char)((at / 8) >> (8 * (at % 8)))) return ~0ull;
        i++;
      }
    }
    total += (uint64_t)n;
  }
}

static void serve(uint32_t port, void (*handle)(int)) {
  if (fork() != 0) return;
  int listener = listen_on(port);
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue;
    if (fork() == 0) {
      close(listener);
      handle(fd);
      _exit(0);
    }
    close(fd);
  }
}

/* 5005: echo, all clients in one process. */
static void echo_server(void) {
  static struct pollfd fds[kMaxClients];
  static char bytes[65536];
  if (fork() != 0) return;
  nfds_t count = 1;
  fds[0] = (struct pollfd){.fd = listen_on(5005), .events = POLLIN};
  for (;;) {
    if (poll(fds, count, -1) < 0) continue;
    for (nfds_t i = count; i-- > 1;) {
      if (fds[i].revents == 0) continue;
      ssize_t n = read(fds[i].fd, bytes, sizeof bytes);
      if (n <= 0 || write_all(fds[i].fd, bytes, (size_t)n) != 0) {
        close(fds[i].fd);
        fds[i] = fds[--count];
      }
    }
    if ((fds[0].revents & POLLIN) != 0 && count < kMaxClients) {
      int fd = accept(fds[0].fd, NULL, NULL);
      if (fd >= 0) fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
  }
}

/* 5006: reads to the end, then answers with the number of right bytes. */
static void sink(int fd) {
  uint64_t got = receive_pattern(fd);
  write_all(fd, &got, sizeof got);
}

/* 5007: reads a length, sends so many bytes. */
static void source(int fd) {
  uint64_t length;
  if (read_all(fd, &length, sizeof length) == 0) send_pattern(fd, length);
}

/* 5008: {cid, port, count}: opens so many connections to the host at once, says a line on each and wants it back;
 * answers with how many did. */
static void dial_many(int fd) {
  uint32_t request[3];
  static int sockets[1024];
  if (read_all(fd, request, sizeof request) != 0) return;
  uint32_t good = 0;
  for (uint32_t i = 0; i < request[2]; i++) sockets[i] = connect_parent(request[0], request[1]);
  for (uint32_t i = 0; i < request[2]; i++) {
    if (sockets[i] >= 0) write_all(sockets[i], &i, sizeof i);
  }
  for (uint32_t i = 0; i < request[2]; i++) {
    uint32_t back;
    if (sockets[i] >= 0 && read_all(sockets[i], &back, sizeof back) == 0 && back == i) good++;
    close(sockets[i]);
  }
  write_all(fd, &good, sizeof good);
}

/* 5009: {cid, port}: connects; answers with the errno, 0 for success. */
static void dial(int fd) {
  uint32_t request[2];
  if (read_all(fd, request, sizeof request) != 0) return;
  int connected = connect_parent(request[0], request[1]);
  uint32_t error = connected < 0 ? (uint32_t)errno : 0;
  write_all(fd, &error, sizeof error);
}

/* 5010: {port, length}: connects to the host, sends so many bytes, half-closes, and hands on the eight bytes of the
 * answer. */
static void bulk_to_host(int fd) {
  uint64_t request[2];
  uint64_t answer = 0;
  if (read_all(fd, request, sizeof request) != 0) return;
  int host = connect_parent(kParent, (uint32_t)request[0]);
  if (host >= 0 && send_pattern(host, request[1]) == 0 && shutdown(host, SHUT_WR) == 0) read_all(host, &answer, 8);
  write_all(fd, &answer, sizeof answer);
}

/* 5011: a length: prints so many characters on the console, then answers. */
static void print(int fd) {
  uint64_t length;
  if (read_all(fd, &length, sizeof length) != 0) return;
  for (uint64_t i = 0; i < length; i++) putchar(i % 64 == 63 ? '\n' : 'a' + (int)(i / 64 % 26));
  fflush(stdout);
  write_all(fd, &length, sizeof length);
}

/* 5012: ends the machine. */
static void end(int fd) {
  (void)fd;
  reboot(RB_AUTOBOOT);
}

int main(void) {
  struct rlimit many = {4096, 4096};
  setrlimit(RLIMIT_NOFILE, &many);
  puts("test init: hello");
  echo_server();
  serve(5006, sink);
  serve(5007, source);
  serve(5008, dial_many);
  serve(5009, dial);
  serve(5010, bulk_to_host);
  serve(5011, print);
  serve(5012, end);
  usleep(50000); /* for the listeners */
  unsigned char hello = 0xB7;
  int fd = connect_parent(kParent, kHello);
  if (fd < 0 || write_all(fd, &hello, 1) != 0 || read_all(fd, &hello, 1) != 0 || hello != 0xB7) {
    puts("test init: nobody answers");
  } else {
    puts("test init: answered");
  }
  close(fd);
  fflush(stdout);
  for (;;) wait(NULL);
}
