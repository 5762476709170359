// SPDX-License-Identifier: Apache-2.0
// The works that do one thing after the other, with blocking sockets: many idle connections, and
// connections to random ports.
#include "base/format.h"
#include "load/load.h"

namespace proxify::bench {

/// Opens connections up to each step, says so, and waits for a line (or the end) of input; at last
/// each connection must still carry a message.
void idle(const Options& options) {
    Errors errors;
    Dialer dialer(options, errors);
    Pattern pattern;
    std::vector<Fd> open;
    auto place_of = [](size_t i) {
        return Pattern::start_of(static_cast<uint32_t>(i), Direction::to_target);
    };

    for (int step : options.steps) {
        while (open.size() < static_cast<size_t>(step) && errors.total() == 0 && !told_to_stop) {
            Fd fd = dialer.dial_and_wait();
            // A connection that has carried a message: what it took for that it may give back now.
            if (fd && exchange(fd.get(), pattern, place_of(open.size()), options.size, errors))
                open.push_back(std::move(fd));
        }
        Line("idle")
            .add("open", static_cast<double>(open.size()))
            .add("errors", static_cast<double>(errors.total()));
        char line[16];
        if (!fgets(line, sizeof line, stdin) || errors.total() > 0) break;
    }
    for (size_t i = 0; i < open.size(); ++i)
        exchange(open[i].get(), pattern, place_of(i) + options.size, options.size, errors);
    Line("idle")
        .add("open", static_cast<double>(open.size()))
        .add("errors", static_cast<double>(errors.total()));
}

/// Connects to random ports of the range, one after the other, and sends a message over each.
void ports(const Options& options) {
    Errors errors;
    Dialer dialer(options, errors);
    Meter meter(options);
    Pattern pattern;
    Histogram connects, exchanges;
    uint64_t random = 88172645463325252u;
    uint64_t range = options.last_port - options.first_port + 1u;

    meter.open();
    for (int i = 0; i < options.count && !told_to_stop && errors.total() < 100; ++i) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        auto began = Clock::now();
        Fd fd = dialer.dial_and_wait(static_cast<uint16_t>(options.first_port + random % range));
        auto connected = Clock::now();
        auto place = Pattern::start_of(static_cast<uint32_t>(i), Direction::to_target);
        if (!fd || !exchange(fd.get(), pattern, place, options.size, errors)) continue;
        connects.add(static_cast<uint64_t>((connected - began).count()));
        exchanges.add(static_cast<uint64_t>((Clock::now() - began).count()));
    }
    meter.close();

    Line("ports")
        .add("connections", static_cast<double>(connects.count()))
        .add(connects, "connect_")
        .add(exchanges)
        .add(meter)
        .add("errors", static_cast<double>(errors.total()));
}

}  // namespace proxify::bench
