// SPDX-License-Identifier: Apache-2.0
// main() of every test program, and the one line per test case that `./dev test` counts:
//
//     [passed]   0.013 s  a port reaches only its own service's targets
//     [skipped]  a port ...: needs CAP_BPF
//     [summary]  12 passed, 0 failed, 1 skipped
//
// A program without a [summary] line died on the way, and counts as a failure.
#define CATCH_CONFIG_RUNNER
#include "support/catch.h"

#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#include <catch2/catch_test_case_info.hpp>
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>
using CatchListener = Catch::EventListenerBase;
#else
using CatchListener = Catch::TestEventListenerBase;
#endif

#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <optional>

namespace proxify::test {
namespace {

std::optional<std::string> skipped_for;

class Lines : public CatchListener {
  public:
    using CatchListener::CatchListener;

    void testCaseStarting(const Catch::TestCaseInfo& test) override {
        CatchListener::testCaseStarting(test);
        skipped_for.reset();
        started_ = std::chrono::steady_clock::now();
    }

    void testCaseEnded(const Catch::TestCaseStats& stats) override {
        CatchListener::testCaseEnded(stats);
        const std::string& name = name_of(stats.testInfo);
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started_;
        char seconds[32];
        std::snprintf(seconds, sizeof seconds, "%8.3f s  ", took.count());
        if (stats.totals.testCases.failed > 0) {
            ++failed_;
            std::cout << "[failed] " << seconds << name << std::endl;
        } else if (skipped_for) {
            ++skipped_;
            std::cout << "[skipped] " << name << ": " << *skipped_for << std::endl;
        } else {
            ++passed_;
            std::cout << "[passed] " << seconds << name << std::endl;
        }
    }

    void testRunEnded(const Catch::TestRunStats& stats) override {
        CatchListener::testRunEnded(stats);
        std::cout << "[summary] " << passed_ << " passed, " << failed_ << " failed, " << skipped_
                  << " skipped" << std::endl;
    }

  private:
    // Version 2 hands over a value, version 3 a pointer.
    static const std::string& name_of(const Catch::TestCaseInfo& info) { return info.name; }
    template <class Pointer>
    static const std::string& name_of(const Pointer& info) {
        return info->name;
    }

    std::chrono::steady_clock::time_point started_;
    int passed_ = 0, failed_ = 0, skipped_ = 0;
};

CATCH_REGISTER_LISTENER(Lines)

}  // namespace

void note_skipped(const std::string& missing) {
    skipped_for = missing;
}

}  // namespace proxify::test

int main(int argc, char* argv[]) {
    // Tests hold both ends of thousands of connections; the hard limit is what they may have.
    rlimit files{};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    std::signal(SIGPIPE, SIG_IGN);
    // bpftool and ip live where an ordinary user's PATH does not look.
    const char* path = std::getenv("PATH");
    setenv("PATH", (std::string(path ? path : "/usr/bin:/bin") + ":/usr/sbin:/sbin").c_str(), 1);
    return Catch::Session().run(argc, argv);
}
