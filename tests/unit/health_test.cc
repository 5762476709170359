// SPDX-License-Identifier: Apache-2.0
// Health on a make-believe network, whose clock is the only one it knows.
#include "health/health.h"

#include "base/format.h"
#include "io/sim/world.h"
#include "support/catch.h"

using namespace proxify;
using balance::Target;
using io::sim::Door;

namespace {

class Journal : public telemetry::Journal {
  public:
    void session(telemetry::SessionRecord&&) override {}
    void write(telemetry::Level, const char* event, std::string message,
               std::vector<std::pair<const char*, std::string>>) override {
        events.push_back(event);
        messages.push_back(std::move(message));
    }
    std::vector<std::string> events, messages;
};

/// 10.0.0.1:80, 10.0.0.2:80 and so on, in one service called "web".
config::Service web(int targets) {
    config::Service service;
    service.name = "web";
    service.ports = {{5000, 5000}};
    for (int i = 1; i <= targets; ++i) {
        const Ip ip = Ip::v4(10, 0, 0, static_cast<uint8_t>(i));
        service.targets.push_back({.text = format("{}:80", ip.text()),
                                   .host = ip.text(),
                                   .ip = ip,
                                   .port = {config::TargetPort::Kind::fixed, 80}});
    }
    return service;
}

struct Fixture {
    explicit Fixture(const config::Service& service) {
        for (const auto& target : service.targets) {
            Door door;
            door.script = [](io::sim::Random&) { return io::sim::Script{}; };
            world.put_target(*target.ip, std::move(door));
        }
        follow(service);
    }

    void follow(const config::Service& service) {
        config::Config config;
        config.services = {service};
        snapshot = routing::Snapshot::build(config, {}, snapshot.get(), loop.now());
        health.follow(*snapshot);
    }

    const balance::Pool& pool() const { return snapshot->services()[1]->pool; }
    Target& target(size_t number) { return *pool().targets()[number - 1]; }
    Ip ip(int number) { return Ip::v4(10, 0, 0, static_cast<uint8_t>(number)); }

    /// Does something at a moment of the world's.
    void at(Duration when, std::function<void()> act) {
        world.at(start + when, [this, act] { loop.post([act] { act(); }); });
    }
    void run_until(Duration when) {
        at(when, [this] {
            health.stop();
            loop.stop();
        });
        loop.run();
    }

    io::sim::World world{1, {}};
    io::Loop loop{*io::Ring::open({})};
    const Time start = loop.now();
    Journal journal;
    std::vector<std::string> changes;
    std::shared_ptr<const routing::Snapshot> snapshot;
    health::Health health{
        loop, journal, nullptr, [this](const routing::Service& service, const Target& target) {
            changes.push_back(
                format("{} {} {}", service.name, target.text, service.pool.any_available()));
        }};
};

}  // namespace

TEST_CASE("whoever asks is told when a service has lost its last target, and when it has one") {
    Fixture fixture(web(2));
    auto answer = [&](int number, Door::Answer answer) {
        fixture.world.target(fixture.ip(number)).answer = answer;
    };
    fixture.at(10s, [&] { answer(1, Door::Answer::refuses); });
    fixture.at(30s, [&] { answer(2, Door::Answer::refuses); });
    fixture.at(50s, [&] { answer(1, Door::Answer::accepts); });
    fixture.run_until(80s);
    CHECK(fixture.changes == std::vector<std::string>{"web 10.0.0.1:80 true",
                                                      "web 10.0.0.2:80 false",
                                                      "web 10.0.0.1:80 true"});
    CHECK(fixture.journal.events ==
          std::vector<std::string>{"target_down", "target_down", "target_up"});
}

TEST_CASE("a target that is no longer checked is up, and that is a change as well") {
    auto service = web(1);
    Fixture fixture(service);
    fixture.at(10s, [&] { fixture.world.target(fixture.ip(1)).answer = Door::Answer::refuses; });
    fixture.at(30s, [&] {
        CHECK_FALSE(fixture.target(1).up);
        service.health.enabled = false;
        fixture.follow(service);
        CHECK(fixture.target(1).up);
    });
    fixture.run_until(40s);
    CHECK(fixture.changes ==
          std::vector<std::string>{"web 10.0.0.1:80 false", "web 10.0.0.1:80 true"});
}
