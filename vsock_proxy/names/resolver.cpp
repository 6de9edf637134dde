// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/names/resolver.h"

#include <ares.h>
#include <fmt/format.h>
#include <netdb.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include <algorithm>
#include <list>
#include <map>

#include "src/base/bytes.h"

namespace nitro::proxy {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLongestTimeToLive{24 * 3600};

/// Identifies a version of a file; all zero if there is none.
struct FileVersion {
  ino_t inode = 0;
  off_t size = 0;
  std::int64_t seconds = 0;
  std::int64_t nanoseconds = 0;
  bool operator==(const FileVersion&) const = default;

  static FileVersion of(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return {};
    return {.inode = status.st_ino,
            .size = status.st_size,
            .seconds = status.st_mtim.tv_sec,
            .nanoseconds = status.st_mtim.tv_nsec};
  }
};

int address_family(Family family) {
  if (family == Family::kV4) return AF_INET;
  return family == Family::kV6 ? AF_INET6 : AF_UNSPEC;
}

/// The reason, for a user who thinks of names and servers.
std::string reason_of(int status) {
  switch (status) {
    case ARES_ENOTFOUND:
      return "there is no such name";
    case ARES_ENODATA:
      return "the name has no address of an allowed family";
    case ARES_ETIMEOUT:
    case ARES_ECONNREFUSED:
      return "no name server answers (see /etc/resolv.conf)";
    default:
      return ::ares_strerror(status);
  }
}

struct Answer {
  Result<Resolver::Addresses> addresses;
  Clock::time_point expires;
  Clock::time_point stale_until{};  // of addresses
};

struct FreeAddresses {
  void operator()(ares_addrinfo* result) const { ::ares_freeaddrinfo(result); }
};

Answer answer_of(const std::string& host, Family family, int status,
                 std::unique_ptr<ares_addrinfo, FreeAddresses> result) {
  const auto now = Clock::now();
  const auto failure = [&](const std::string& reason) {
    return Answer{
        .addresses = fail(ErrorCode::kSocket, fmt::format("the name {} cannot be resolved: {}", quote(host), reason)),
        .expires = now + Resolver::kFailureTime};
  };
  if (status != ARES_SUCCESS) return failure(reason_of(status));
  Resolver::Addresses addresses;
  std::chrono::seconds time_to_live = kLongestTimeToLive;
  const auto shorten = [&time_to_live](int seconds) {
    time_to_live = std::min(time_to_live, std::chrono::seconds(std::max(seconds, 0)));
  };
  for (const ares_addrinfo_cname* alias = result->cnames; alias != nullptr; alias = alias->next) shorten(alias->ttl);
  for (const ares_addrinfo_node* node = result->nodes; node != nullptr; node = node->ai_next) {
    shorten(node->ai_ttl);
    IpAddress address;
    if (node->ai_family == AF_INET) {
      sockaddr_in v4{};
      std::copy_n(reinterpret_cast<const std::byte*>(node->ai_addr), sizeof v4, reinterpret_cast<std::byte*>(&v4));
      address = IpAddress(v4.sin_addr);
    } else if (node->ai_family == AF_INET6) {
      sockaddr_in6 v6{};
      std::copy_n(reinterpret_cast<const std::byte*>(node->ai_addr), sizeof v6, reinterpret_cast<std::byte*>(&v6));
      address = IpAddress(v6.sin6_addr);
    } else {
      continue;
    }
    // A server may answer with the family that it was not asked for.
    if (!is_of(family, address)) continue;
    if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) addresses.push_back(address);
  }
  if (addresses.empty()) return failure(reason_of(ARES_ENODATA));
  return {.addresses = std::move(addresses),
          .expires = now + time_to_live,
          .stale_until = now + time_to_live + Resolver::kStaleTime};
}

}  // namespace

class Resolver::State {
 public:
  State(EventLoop& loop, Settings settings) : loop_(loop), settings_(std::move(settings)) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    // Ends all queries; their callbacks find nobody waiting.
    for (auto& [key, name] : names_) name.waiting.clear();
    channels_.clear();
  }

  Result<void> open_channel() {
    files_ = current_files();
    auto channel = std::make_unique<Channel>(*this);
    ares_options options{};
    options.sock_state_cb = [](void* data, ares_socket_t socket, int readable, int writable) {
      static_cast<Channel*>(data)->watch(socket, readable != 0, writable != 0);
    };
    options.sock_state_cb_data = channel.get();
    options.timeout = static_cast<int>(settings_.try_time.count());
    options.tries = settings_.tries;
    int mask = ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES;
    std::string resolv_conf = settings_.resolv_conf;
    if (!resolv_conf.empty()) {
      options.resolvconf_path = resolv_conf.data();
      mask |= ARES_OPT_RESOLVCONF;
    }
    int status = ::ares_init_options(&channel->handle, &options, mask);
    if (status == ARES_SUCCESS && !settings_.servers.empty()) {
      status = ::ares_set_servers_ports_csv(channel->handle, settings_.servers.c_str());
    }
    if (status != ARES_SUCCESS) {
      return fail(ErrorCode::kSocket, fmt::format("preparing to resolve names: {}", ::ares_strerror(status)));
    }
    channels_.push_back(std::move(channel));
    return {};
  }

  Query resolve(const std::string& host, Family family, OnResult on_result) {
    auto callback = std::make_shared<OnResult>(std::move(on_result));
    const std::weak_ptr<OnResult> waiting = callback;
    if (const auto address = IpAddress::parse(host)) {
      later(waiting,
            is_of(family, *address)
                ? Result<Addresses>(Addresses{*address})
                : fail(ErrorCode::kSocket, fmt::format("{} is not an address of the family that is allowed", host)));
      return Query(std::move(callback));
    }
    const Key key(host, family);
    if (names_.size() >= kMaxNames && !names_.contains(key)) make_room();
    Name& name = names_[key];
    if (name.answer && Clock::now() < name.answer->expires) {
      later(waiting, name.answer->addresses);
      return Query(std::move(callback));
    }
    name.waiting.push_back(waiting);
    if (!name.asking) ask(key, name);
    return Query(std::move(callback));
  }

 private:
  using Key = std::pair<std::string, Family>;

  struct Name {
    std::optional<Answer> answer;
    bool asking = false;
    std::vector<std::weak_ptr<OnResult>> waiting;
  };

  /// A c-ares channel with its descriptors and its timer on the loop.
  struct Channel {
    explicit Channel(State& state_of_resolver) : state(state_of_resolver) {}
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;
    ~Channel() {
      if (handle != nullptr) ::ares_destroy(handle);
    }

    void watch(ares_socket_t socket, bool readable, bool writable) {
      watches.erase(socket);
      if (!readable && !writable) return;
      const std::uint32_t events = (readable ? EPOLLIN : 0U) | (writable ? EPOLLOUT : 0U);
      auto watch = state.loop_.watch_fd(socket, events, [this, socket](std::uint32_t seen) {
        const bool failed = (seen & (EPOLLERR | EPOLLHUP)) != 0;
        process(failed || (seen & EPOLLIN) != 0 ? socket : ARES_SOCKET_BAD,
                failed || (seen & EPOLLOUT) != 0 ? socket : ARES_SOCKET_BAD);
      });
      // Without a watch the query ends by its time limit.
      if (watch) watches.emplace(socket, std::move(*watch));
    }

    void process(ares_socket_t readable, ares_socket_t writable) {
      ::ares_process_fd(handle, readable, writable);
      arm();
    }

    /// Sets the timer for the first of the channel's time limits.
    void arm() {
      timeval left{};
      if (::ares_timeout(handle, nullptr, &left) == nullptr) {
        timer.cancel();
        return;
      }
      // A little later than asked: c-ares compares with a clock of its own, and would ask for 0 again and again.
      const auto delay = std::chrono::seconds(left.tv_sec) + std::chrono::microseconds(left.tv_usec);
      timer = state.loop_.watch_timer(delay + std::chrono::milliseconds(1),
                                      [this] { process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); });
    }

    State& state;
    std::map<ares_socket_t, EventLoop::Watch> watches;
    EventLoop::Watch timer;
    std::size_t queries = 0;
    // Last: destroying it calls watch() and ends the queries.
    ares_channel handle = nullptr;
  };

  struct Asked {
    State& state;
    Channel& channel;
    Key key;
  };

  [[nodiscard]] std::pair<FileVersion, FileVersion> current_files() const {
    return {FileVersion::of(settings_.resolv_conf.empty() ? "/etc/resolv.conf" : settings_.resolv_conf),
            FileVersion::of("/etc/nsswitch.conf")};
  }

  void ask(const Key& key, Name& name) {
    // A new channel for new files; queries that are under way end on the old one. If there can be none, the old one
    // still serves.
    if (files_ != current_files()) static_cast<void>(open_channel());
    name.asking = true;
    Channel& channel = *channels_.back();
    ++channel.queries;
    ares_addrinfo_hints hints{};
    hints.ai_family = address_family(key.second);
    hints.ai_socktype = SOCK_STREAM;
    auto asked = std::make_unique<Asked>(Asked{.state = *this, .channel = channel, .key = key});
    ::ares_getaddrinfo(
        channel.handle, key.first.c_str(), nullptr, &hints,
        [](void* data, int status, int, ares_addrinfo* result) {
          const std::unique_ptr<Asked> done(static_cast<Asked*>(data));
          std::unique_ptr<ares_addrinfo, FreeAddresses> owned(result);
          done->state.answered(*done, status, std::move(owned));
        },
        asked.release());
    channel.arm();
  }

  /// May be called before ares_getaddrinfo() has returned, and while a channel is destroyed.
  void answered(const Asked& asked, int status, std::unique_ptr<ares_addrinfo, FreeAddresses> result) {
    if (--asked.channel.queries == 0 && channels_.size() > 1) {
      loop_.defer([this, alive = std::weak_ptr(alive_)] {
        if (!alive.expired()) drop_old_channels();
      });
    }
    const auto found = names_.find(asked.key);
    if (found == names_.end()) return;
    Name& name = found->second;
    name.asking = false;
    Answer answer = answer_of(asked.key.first, asked.key.second, status, std::move(result));
    const auto now = Clock::now();
    const bool denied = status == ARES_ENOTFOUND || status == ARES_ENODATA;
    if (!answer.addresses && !denied && name.answer && name.answer->addresses && now < name.answer->stale_until) {
      name.answer->expires = std::min(now + kStaleRetry, name.answer->stale_until);
    } else {
      name.answer = std::move(answer);
    }
    for (const auto& waiting : name.waiting) later(waiting, name.answer->addresses);
    name.waiting.clear();
  }

  /// Calls back in the next round of the loop.
  void later(const std::weak_ptr<OnResult>& waiting, Result<Addresses> result) {
    loop_.defer([waiting, result = std::move(result)] {
      if (const auto callback = waiting.lock()) (*callback)(result);
    });
  }

  void drop_old_channels() {
    const auto newest = channels_.back().get();
    std::erase_if(channels_,
                  [newest](const auto& channel) { return channel.get() != newest && channel->queries == 0; });
  }

  void make_room() {
    const auto now = Clock::now();
    std::erase_if(names_, [now](const auto& entry) {
      return !entry.second.asking && entry.second.answer && entry.second.answer->expires <= now;
    });
    // More than one place, so that not every new name looks at all that are kept.
    constexpr std::size_t kKept = kMaxNames - kMaxNames / 8;
    for (auto at = names_.begin(); names_.size() > kKept && at != names_.end();) {
      at = at->second.asking ? std::next(at) : names_.erase(at);
    }
  }

  EventLoop& loop_;
  const Settings settings_;
  std::pair<FileVersion, FileVersion> files_;
  std::map<Key, Name> names_;
  std::list<std::unique_ptr<Channel>> channels_;  // queries go to the last; never empty
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

Resolver::Resolver(std::unique_ptr<State> state) : state_(std::move(state)) {}
Resolver::~Resolver() = default;

Result<std::unique_ptr<Resolver>> Resolver::create(EventLoop& loop, Settings settings) {
  if (const int status = ::ares_library_init(ARES_LIB_INIT_ALL); status != ARES_SUCCESS) {
    return fail(ErrorCode::kSocket, fmt::format("preparing to resolve names: {}", ::ares_strerror(status)));
  }
  auto state = std::make_unique<State>(loop, std::move(settings));
  NITRO_CHECK(state->open_channel());
  // The constructor is private: make_unique cannot reach it.
  return std::unique_ptr<Resolver>(new Resolver(std::move(state)));
}

Resolver::Query Resolver::resolve(const std::string& host, Family family, OnResult on_result) {
  return state_->resolve(host, family, std::move(on_result));
}

}  // namespace nitro::proxy
