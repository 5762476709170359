// SPDX-License-Identifier: Apache-2.0
// Whether all loops still turn. The datagrams are in tests/kernel/service_test.cc.
#include "control/notify.h"

#include <cstdlib>

#include "support/catch.h"

using namespace proxify;
using control::Notifier;
using control::RollCall;

namespace {

/// A loop that reads its mail when it is told to.
struct Mailbox {
    std::vector<io::Loop::Message> mail;
    void turn() {
        for (auto& message : mail) message();
        mail.clear();
    }
    RollCall::Post post() {
        return [this](io::Loop::Message message) { mail.push_back(std::move(message)); };
    }
};

Result<Notifier> notifier(const char* socket, const char* microseconds = nullptr,
                          const char* process = nullptr) {
    for (auto [name, value] :
         {std::pair("NOTIFY_SOCKET", socket), std::pair("WATCHDOG_USEC", microseconds),
          std::pair("WATCHDOG_PID", process)})
        value ? setenv(name, value, 1) : unsetenv(name);
    return Notifier::from_environment();
}

}  // namespace

TEST_CASE("all have answered once each has read its mail") {
    Mailbox a, b;
    RollCall roll;
    CHECK(roll.all_answered({a.post(), b.post()}));  // nobody was asked before
    CHECK_FALSE(roll.all_answered({a.post(), b.post()}));
    a.turn();
    CHECK_FALSE(roll.all_answered({a.post(), b.post()}));
    b.turn();
    CHECK(roll.all_answered({a.post(), b.post()}));
}

TEST_CASE("a loop that hangs is asked once, however often the roll is called") {
    Mailbox a, hangs;
    RollCall roll;
    roll.all_answered({a.post(), hangs.post()});
    for (int i = 0; i < 100; ++i) {
        a.turn();
        CHECK_FALSE(roll.all_answered({a.post(), hangs.post()}));
    }
    CHECK(hangs.mail.size() == 1);
    CHECK(a.mail.empty());
    hangs.turn();
    CHECK(roll.all_answered({a.post(), hangs.post()}));
}

TEST_CASE("a loop that has ended owes no answer") {
    Mailbox a;
    RollCall roll;
    {
        Mailbox ends;
        roll.all_answered({a.post(), ends.post()});
        a.turn();
        CHECK_FALSE(roll.all_answered({a.post()}));
    }
    CHECK(roll.all_answered({a.post()}));
}

TEST_CASE("the manager's variables are read once, and are gone then") {
    auto watched = notifier("@manager", "3000000");
    REQUIRE(watched);
    CHECK(watched->is_heard());
    CHECK(watched->watchdog() == 3s);
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
        CHECK(std::getenv(name) == nullptr);
    CHECK_FALSE(Notifier::from_environment()->is_heard());

    CHECK_FALSE(notifier("@manager")->watchdog());
    for (const char* nonsense : {"0", "-5", "soon", "1s", ""})
        CHECK_FALSE(notifier("@manager", nonsense)->watchdog());
    CHECK_FALSE(notifier("@manager", "3000000", "1")->watchdog());  // it watches somebody else
    CHECK(notifier("@manager", "3000000", std::to_string(getpid()).c_str())->watchdog() == 3s);
    CHECK_FALSE(notifier(nullptr, "3000000")->watchdog());
}

TEST_CASE("a socket that is neither a path nor abstract is a sentence") {
    const std::string long_name = "/" + std::string(107, 'x');
    for (std::string name : {"manager", "vsock:2:1234", "@", long_name.c_str()}) {
        auto refused = notifier(name.c_str());
        REQUIRE_FALSE(refused);
        CHECK(refused.error().text().contains("\"" + name + "\""));
        CHECK(refused.error().text().contains("NOTIFY_SOCKET"));
    }
    CHECK(notifier(long_name.substr(0, 107).c_str()));
}
