// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iterator>

#include "base/format.h"
#include "io/sim/bytes.h"
#include "sim/elements.h"
#include "sim/scenario.h"

namespace proxify::test {

using namespace io::sim;

namespace {

constexpr uint16_t first_port = 5000;
constexpr uint64_t port_count = 24;

/// Draws one plan; each run has a temper that says how much of it is out of the ordinary.
class Drawing {
  public:
    explicit Drawing(uint64_t seed)
        : dice_(mix(seed ^ 0x706C616E)),
          temper_(dice_.chance(0.2) ? 0 : static_cast<double>(dice_.below(1000)) / 1000) {}

    Plan draw(uint64_t seed) {
        Plan plan;
        plan.seed = seed;
        plan.faults = Faults::drawn(dice_);
        plan.ring.buffers = 1u << dice_.between(1, 6);
        plan.ring.buffer_size = static_cast<unsigned>(dice_.between(32, 2048));
        plan.steered = dice_.chance(0.5);
        plan.shares.sessions_max = dice_.chance(0.2) ? dice_.between(1, 6) : 1000;
        bulk_ = dice_.chance(0.04);
        plan.shares.pipes_max = bulk_ ? dice_.below(4) : 0;
        if (bulk_) plan.ring.buffer_size = 4096;
        checked_ = dice_.chance(0.3);
        has_elements_ = dice_.chance(0.4);
        plan.names["db.internal"] = {Endpoint{target_ip(0)},
                                     Endpoint{target_ip(dice_.below(target_count))}};
        for (uint64_t i = 0; i < target_count; ++i) plan.targets[target_ip(i)] = door();

        auto service_count = dice_.between(1, 3);
        for (uint64_t i = 0; i < service_count; ++i) add_service(plan.config);
        plan.config.drain = dice_.chance(0.2) ? Duration(0) : dice_.up_to(4s);
        plan.config.listen = 8080;
        if (plan.steered && dice_.chance(0.5)) plan.config.default_service = 0;
        plan.drain_at = 100ms + dice_.up_to(5s);

        config::Config config = plan.config;
        for (auto count = dice_.below(4); count > 0; --count) {
            change(config);
            plan.reloads.push_back({dice_.up_to(plan.drain_at), config});
        }
        std::ranges::sort(plan.reloads, {}, &Plan::Reload::when);
        for (auto count = dice_.below(4); count > 0 && dice_.chance(temper_); --count)
            plan.answers.push_back(
                {dice_.up_to(plan.drain_at), target_ip(dice_.below(target_count)), answer()});
        for (auto count = dice_.below(4); count > 0 && !checked_ && dice_.chance(temper_); --count)
            plan.states.push_back({dice_.up_to(plan.drain_at), dice_.below(16), dice_.chance(0.6)});
        if (plan.steered && dice_.chance(0.3)) plan.added_by_hand.insert(any_port());

        std::vector<uint16_t> ports = ports_of(plan.config);
        for (const auto& reload : plan.reloads)
            std::ranges::copy(ports_of(reload.config), std::back_inserter(ports));
        auto client_count = dice_.between(1, 8 + dice_.of_any_size(40));
        Duration rush = dice_.chance(0.3) ? 1ms : plan.drain_at;
        Duration begin = dice_.chance(0.2) ? plan.drain_at - 1ms : Duration(0);
        for (uint64_t i = 0; i < client_count; ++i)
            plan.clients.push_back({begin + dice_.up_to(rush),
                                    ports.empty() || dice_.chance(0.05)
                                        ? any_port()
                                        : ports[dice_.below(ports.size())],
                                    client_script()});
        for (auto count = dice_.below(4); count > 0; --count)
            plan.handovers.push_back(dice_.up_to(plan.drain_at));
        return plan;
    }

  private:
    static constexpr uint64_t target_count = 6;

    static Ip target_ip(uint64_t index) {
        // The last two are this host.
        if (index >= target_count - 2) return Ip::v4(127, 0, 0, static_cast<uint8_t>(1 + index));
        return Ip::v4(10, 0, 0, static_cast<uint8_t>(1 + index));
    }
    uint16_t any_port() { return static_cast<uint16_t>(first_port + dice_.below(port_count)); }

    static std::vector<uint16_t> ports_of(const config::Config& config) {
        std::vector<uint16_t> ports;
        for (const auto& service : config.services)
            for (auto [first, last] : service.ports)
                for (int port = first; port <= last; ++port)
                    ports.push_back(static_cast<uint16_t>(port));
        return ports;
    }

    Door::Answer answer() {
        if (!dice_.chance(temper_ * 0.5)) return Door::Answer::accepts;
        return static_cast<Door::Answer>(dice_.between(1, 3));
    }

    Door door() {
        Door door;
        door.answer = answer();
        if (dice_.chance(temper_ * 0.3)) door.refuses_some = 0.5;
        if (dice_.chance(temper_ * 0.3)) door.delay_max = dice_.up_to(3s);
        // All connections of one target are alike in kind, not in size.
        bool echoes = dice_.chance(0.5);
        double temper = temper_;
        door.script = [echoes, temper, bulk = bulk_](Random& dice) {
            Script script = bulk ? bulk_script(dice, temper) : any_script(dice, temper);
            script.echoes = echoes;
            if (echoes) script.says = Script::unlimited;
            return script;
        };
        return door;
    }

    static Script any_script(Random& dice, double temper) {
        Script script;
        if (!dice.chance(0.1))
            script.says = 2 + dice.of_any_size(dice.chance(0.03) ? 200'000 : 8'000);
        // Big ones take big steps: a run is to be short.
        script.step =
            static_cast<uint32_t>(std::max(1 + dice.of_any_size(4096), script.says / 32 + 1));
        script.window =
            static_cast<uint32_t>(std::max(64 + dice.of_any_size(16384), script.says / 64));
        script.pace = 1us + dice.up_to(dice.chance(0.1) ? Duration(3ms) : Duration(100us));
        if (dice.chance(0.3)) script.ends = Script::Ends::after_peer;
        if (dice.chance(0.1)) script.first_pause = dice.up_to(200ms);
        if (dice.chance(temper * 0.5)) {
            switch (dice.below(7)) {
                case 0:
                    script.resets_after = dice.of_any_size(8'000);
                    break;
                case 1:
                    script.resets_in = dice.up_to(dice.chance(0.5) ? Duration(2ms) : Duration(1s));
                    break;
                case 2:
                    script.hears = dice.of_any_size(8'000);
                    break;
                case 3:
                    script.closes = true;
                    break;
                case 4:
                    script.ends = Script::Ends::never;
                    break;
                case 5:
                    script.first_pause = dice.up_to(20s);
                    break;
                case 6:
                    script.pace = dice.up_to(500ms);
                    break;
            }
        }
        return script;
    }

    /// So much that it goes through a pipe, and small talk between.
    static Script bulk_script(Random& dice, double temper) {
        Script script = any_script(dice, temper);
        if (dice.chance(0.6)) return script;
        script.says = dice.between(200'000, 900'000);
        script.step = static_cast<uint32_t>(dice.between(20'000, 120'000));
        script.window = static_cast<uint32_t>(dice.between(20'000, 300'000));
        if (script.resets_after != Script::unlimited) script.resets_after = dice.below(900'000);
        return script;
    }

    Script client_script() {
        return bulk_ ? bulk_script(dice_, temper_) : any_script(dice_, temper_);
    }

    void add_service(config::Config& config) {
        config::Service service;
        service.count_ports = services_made_ % 2 == 0;
        service.name = format("service-{}", services_made_++);
        add_ports(config, service);
        for (auto count = dice_.between(1, 4); count > 0; --count) add_target(service);
        service.tries = static_cast<int>(dice_.between(1, 4));
        service.health = {.enabled = checked_,
                          .interval = 50ms + dice_.up_to(1s),
                          .timeout = 10ms + dice_.up_to(500ms),
                          .rise = static_cast<int>(dice_.between(1, 3)),
                          .fall = static_cast<int>(dice_.between(1, 3)),
                          .port = std::nullopt};
        service.balance = static_cast<config::Balance>(dice_.below(6));
        if (dice_.chance(0.3))
            service.hash_balance_factor = static_cast<int>(dice_.between(101, 300));
        if (dice_.chance(0.3)) service.slow_start = 1ms + dice_.up_to(3s);
        if (dice_.chance(0.3)) service.panic = static_cast<int>(dice_.between(1, 100));
        if (dice_.chance(0.3)) service.on_down = config::OnDown::reset;
        service.ejection = {.enabled = dice_.chance(0.7),
                            .failures = static_cast<int>(dice_.between(1, 5)),
                            .early_resets = static_cast<int>(dice_.between(0, 5)),
                            .time = 1ms + dice_.up_to(500ms),
                            .max_time = 600ms + dice_.up_to(3s),
                            .max_share = static_cast<int>(dice_.between(1, 100))};
        if (dice_.chance(0.3)) {
            if (dice_.chance(0.5)) service.max_connections = static_cast<int>(dice_.between(1, 4));
            for (auto& target : service.targets)
                if (dice_.chance(0.5))
                    target.max_connections = static_cast<int>(dice_.between(1, 3));
            service.queue = {.size = static_cast<int>(dice_.below(20)),
                             .timeout = 1ms + dice_.up_to(dice_.chance(0.5) ? 50ms : 10s)};
        }
        service.timeouts = {
            .connect = dice_.chance(0.2) ? 1ms + dice_.up_to(100ms) : Duration(3s),
            .idle = dice_.chance(0.3) ? 5ms + dice_.up_to(2s) : Duration(1h),
            .half_close = dice_.chance(0.3) ? 5ms + dice_.up_to(2s) : Duration(30s)};
        if (dice_.chance(0.5)) {
            service.cache = config::Cache{.ttl = 1ms + dice_.up_to(10s),
                                          .max_request = dice_.between(1, 30),
                                          .max_response = dice_.between(1, 20000),
                                          .max_size = dice_.between(20000, 60000),
                                          .request_timeout = 1ms + dice_.up_to(200ms)};
        }
        if (has_elements_) set_elements(service);
        config.services.push_back(service);
    }

    /// A chain, or none.
    void set_elements(config::Service& service) {
        service.filters.clear();
        service.chunk_size = 1 + dice_.of_any_size(4999);
        if (dice_.chance(0.2)) return;
        const bool lets_go_soon = dice_.chance(0.3);
        for (auto count = dice_.between(1, 4); count > 0; --count)
            service.filters.push_back(element(lets_go_soon));
        // Where letters that belong together went at several moments, it takes a plain chain to
        // say what may have become of them.
        if (lets_go_soon) service.filters.push_back(replacing(/*soon=*/true));
        for (size_t i = 0; i < service.filters.size(); ++i) {
            auto& made = service.filters[i];
            made.name = format("element-{}", i);
            if (dice_.chance(0.3)) made.direction = static_cast<Direction>(dice_.below(2));
        }
        std::ranges::rotate(
            service.filters,
            service.filters.begin() + static_cast<ptrdiff_t>(dice_.below(service.filters.size())));
    }

    config::Element element(bool is_plain) {
        using Type = config::ElementType;
        config::Element made;
        switch (dice_.below(is_plain ? 2 : 5)) {
            case 0:
                made.type = Type::count;
                if (dice_.chance(0.5)) made.head = 1 + dice_.of_any_size(5000);
                break;
            case 1:
                made.type = Type::rate;
                made.bytes = 1000 + dice_.of_any_size(10'000'000);
                made.burst = 1 + dice_.of_any_size(10'000);
                made.per = static_cast<config::RatePer>(dice_.below(3));
                break;
            case 2:
                made.type = Type::limit_bytes;
                made.bytes = 1 + dice_.of_any_size(50'000);
                break;
            case 3:
                return replacing(/*soon=*/false);
            case 4:
                // Of so few letters that some streams have them soon and some never.
                made.type = Type::match;
                made.pattern = scan::Pattern::compile(letters(dice_.between(2, 8))).value();
                break;
        }
        return made;
    }

    /// Such as streams are made of.
    std::string letters(uint64_t count) {
        std::string text;
        while (text.size() < count)
            text += static_cast<char>(io::sim::first_letter + dice_.below(4));
        return text;
    }

    config::Element replacing(bool soon) {
        config::Element made;
        made.type = config::ElementType::replace;
        made.hold = soon ? 1us + dice_.up_to(test::soon) : Duration(1h);
        const auto first = dice_.below(4);
        for (auto count = dice_.between(2, 4); count > 0; --count)
            made.find += static_cast<char>(io::sim::first_letter +
                                           (soon ? first + made.find.size() : dice_.below(4)) % 4);
        made.with = std::string(soon + dice_.of_any_size(40), 'x');
        return made;
    }

    void add_ports(const config::Config& config, config::Service& service) {
        for (auto count = dice_.between(1, 3); count > 0; --count) {
            uint16_t first = any_port();
            auto last = static_cast<uint16_t>(first + dice_.below(3));
            auto taken = [&](const config::Service& by) {
                return std::ranges::any_of(by.ports, [&](const auto& range) {
                    return range.first <= last && first <= range.last;
                });
            };
            if (!taken(service) && std::ranges::none_of(config.services, taken))
                service.ports.push_back({first, last});
        }
    }

    void add_target(config::Service& service) {
        config::TargetSpec target;
        if (dice_.chance(0.15)) {
            target.host = "db.internal";
        } else {
            target.ip = target_ip(dice_.below(target_count));
            target.host = target.ip->text();
        }
        using Kind = config::TargetPort::Kind;
        switch (dice_.below(4)) {
            case 0:
                target.port = {Kind::same, 0};
                break;
            case 1:
                target.port = {Kind::offset, 1000};
                break;
            default:
                target.port = {Kind::fixed, static_cast<uint16_t>(9000 + dice_.below(3))};
                break;
        }
        target.text = target.host;
        if (dice_.chance(0.2)) target.priority = static_cast<int>(dice_.below(3));
        if (dice_.chance(0.2)) target.backup = true;
        if (dice_.chance(0.2)) target.weight = static_cast<int>(dice_.below(4));
        service.targets.push_back(target);
    }

    /// What a person may have done to targets.toml.
    void change(config::Config& config) {
        auto& services = config.services;
        auto& service = services[dice_.below(services.size())];
        switch (dice_.below(has_elements_ ? 11 : 9)) {
            case 9:
            case 10:
                return set_elements(service);
            case 8:
                service.ejection.enabled = !service.ejection.enabled;
                service.panic = static_cast<int>(dice_.between(0, 100));
                return;
            case 6:
                service.max_connections = static_cast<int>(dice_.below(4));
                return;
            case 7:
                for (auto& target : service.targets)
                    target.max_connections = static_cast<int>(dice_.below(4));
                return;
            case 0:
                return add_service(config);
            case 1:
                if (services.size() > 1 && !config.default_service)
                    std::erase(services, config::Service(service));
                return;
            case 2:
                return add_target(service);
            case 3:
                if (service.targets.size() > 1) service.targets.erase(service.targets.begin());
                return;
            case 4:
                return add_ports(config, service);
            case 5:
                if (!service.ports.empty()) service.ports.pop_back();
                return;
        }
    }

    Random dice_;
    double temper_;
    bool checked_ = false;
    bool has_elements_ = false;
    bool bulk_ = false;
    int services_made_ = 0;
};

}  // namespace

Plan Plan::drawn(uint64_t seed) {
    return Drawing(seed).draw(seed);
}

}  // namespace proxify::test
