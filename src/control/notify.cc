// SPDX-License-Identifier: Apache-2.0
#include "control/notify.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/format.h"

namespace proxify::control {

/// The value, and it is no longer there.
static std::string take_variable(const char* name) {
    const char* value = std::getenv(name);
    std::string text = value ? value : "";
    unsetenv(name);
    return text;
}

static std::optional<int64_t> number(const std::string& text) {
    int64_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

Result<Notifier> Notifier::from_environment() {
    const auto name = take_variable("NOTIFY_SOCKET");
    const auto microseconds = number(take_variable("WATCHDOG_USEC"));
    const auto watched = take_variable("WATCHDOG_PID");
    Notifier notifier;
    if (name.empty()) return notifier;

    const bool is_path = name[0] == '/', is_abstract = name[0] == '@' && name.size() > 1;
    if ((!is_path && !is_abstract) || name.size() >= sizeof notifier.to_.sun_path)
        return fail(Error::of(format("cannot notify a service manager at \"{}\"", name),
                              "NOTIFY_SOCKET holds the path of a socket, or @ and the name of an "
                              "abstract one;\nunset it if nobody waits to be notified"));
    notifier.to_.sun_family = AF_UNIX;
    std::memcpy(notifier.to_.sun_path, name.data(), name.size());
    if (is_abstract) notifier.to_.sun_path[0] = '\0';
    notifier.to_size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());

    notifier.socket_ = Fd::adopt(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const timeval patience{.tv_sec = 1, .tv_usec = 0};
    if (!notifier.socket_ || setsockopt(notifier.socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience,
                                        sizeof patience) != 0)
        return fail(Error::from_errno(errno, "make a socket for the service manager"));
    const bool is_for_us = watched.empty() || number(watched) == int64_t{getpid()};
    if (microseconds && *microseconds > 0 && is_for_us)
        notifier.watchdog_ = std::chrono::microseconds(*microseconds);
    return notifier;
}

void Notifier::ready(std::string_view status) {
    send(format("READY=1\nSTATUS={}", status), 0);
}

void Notifier::reloading() {
    // The manager compares with the moment in which it asked, by this very clock.
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    send(format("RELOADING=1\nMONOTONIC_USEC={}",
                int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000),
         0);
}

void Notifier::stopping(std::string_view status) {
    send(format("STOPPING=1\nSTATUS={}", status), 0);
}

bool Notifier::status(std::string_view text) {
    return send(format("STATUS={}", text), MSG_DONTWAIT);
}

void Notifier::alive() {
    send("WATCHDOG=1", MSG_DONTWAIT);
}

bool Notifier::send(const std::string& message, int flags) {
    if (!is_heard()) return true;
    // The address each time, not once: a manager that starts anew has a new socket there.
    return ::sendto(socket_.get(), message.data(), message.size(), flags | MSG_NOSIGNAL,
                    reinterpret_cast<const sockaddr*>(&to_), to_size_) >= 0;
}

bool RollCall::all_answered(const std::vector<Post>& everybody) {
    // A message goes once it was read, and with a loop that has ended.
    if (!question_.expired()) return false;
    auto question = std::make_shared<bool>();
    for (const auto& post : everybody) post([question] {});
    question_ = question;
    return true;
}

}  // namespace proxify::control
