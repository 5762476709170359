// SPDX-License-Identifier: Apache-2.0
// soak [DURATION] [--seed N]    ("30s", "10m", "2h"; ten minutes unless told otherwise)
#include <sys/resource.h>

#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <random>

#include "soak/soak.h"
#include "support/namespace.h"

using namespace proxify::test;

static std::optional<Millis> duration_of(const char* text) {
    long count = 0;
    auto [unit, error] = std::from_chars(text, text + std::strlen(text), count);
    if (error != std::errc() || count < 1 || count > 1'000'000) return std::nullopt;
    if (std::strcmp(unit, "s") == 0) return std::chrono::seconds(count);
    if (std::strcmp(unit, "m") == 0) return std::chrono::minutes(count);
    if (std::strcmp(unit, "h") == 0) return std::chrono::hours(count);
    return std::nullopt;
}

static int usage() {
    std::fprintf(stderr, "usage: soak [DURATION] [--seed N]    (DURATION as in 30s, 10m, 2h)\n");
    return 2;
}

int main(int argc, char** argv) {
    const char* other = std::getenv("PROXIFY_BINARY");
    soak::Options options{.binary = other ? other : PROXIFY_BINARY, .seed = std::random_device()()};
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--seed") == 0) {
            if (++i == argc) return usage();
            char* end = nullptr;
            options.seed = std::strtoull(argv[i], &end, 0);
            if (*end != '\0' || end == argv[i]) return usage();
        } else if (auto duration = duration_of(argv[i])) {
            options.duration = *duration;
        } else {
            return usage();
        }
    }

    rlimit files{};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    std::signal(SIGPIPE, SIG_IGN);
    // bpftool lives where an ordinary user's PATH does not look.
    const char* path = std::getenv("PATH");
    setenv("PATH", (std::string(path ? path : "/usr/bin:/bin") + ":/usr/sbin:/sbin").c_str(), 1);
    try {
        return soak::run(options).empty() ? 0 : 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "soak (seed %llu): %s\n",
                     static_cast<unsigned long long>(options.seed), error.what());
        return 1;
    }
}
