// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/relay/pipes.h"

#include <fcntl.h>

#include <utility>

namespace nitro::proxy {

std::unique_ptr<Pipe> Pipe::create(std::size_t size_bytes) {
  auto ends = make_pipe();
  if (!ends) return nullptr;
  if (::fcntl(ends->second.get(), F_SETPIPE_SZ, static_cast<int>(size_bytes)) < 0) return nullptr;
  // The constructor is private: make_unique cannot reach it.
  return std::unique_ptr<Pipe>(new Pipe(std::move(ends->first), std::move(ends->second), size_bytes));
}

ssize_t Pipe::fill(int socket) {
  const ssize_t count = ::splice(socket, nullptr, in_.get(), nullptr, size_bytes_, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (count > 0) held_bytes_ += static_cast<std::size_t>(count);
  return count;
}

ssize_t Pipe::drain(int socket) {
  const ssize_t count = ::splice(out_.get(), nullptr, socket, nullptr, held_bytes_, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (count > 0) held_bytes_ -= static_cast<std::size_t>(count);
  return count;
}

void Pipes::GiveBack::operator()(Pipe* pipe) const {
  std::unique_ptr<Pipe> owned(pipe);
  --pipes->lent_;
  if (owned->held_bytes() == 0 && pipes->spare_.size() <= pipes->lent_) pipes->spare_.push_back(std::move(owned));
}

Pipes::Lent Pipes::borrow() {
  if (lent_ == most_) return {};
  std::unique_ptr<Pipe> pipe;
  if (spare_.empty()) {
    pipe = Pipe::create(size_bytes_);
  } else {
    pipe = std::move(spare_.back());
    spare_.pop_back();
  }
  if (pipe == nullptr) return {};
  ++lent_;
  return Lent(pipe.release(), GiveBack{this});
}

}  // namespace nitro::proxy
