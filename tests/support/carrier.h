// SPDX-License-Identifier: Apache-2.0
// Carrier: takes bytes through the elements of a session as a relay does, with a clock that stands
// still until somebody waits, and a receiver that is always ready. For programs that link filter.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "filter/filters.h"

namespace proxify::test {

/// What elements say to the log.
struct Kept : telemetry::Journal {
    void session(telemetry::SessionRecord&&) override {}
    void write(telemetry::Level at, const char* event, std::string message,
               std::vector<std::pair<const char*, std::string>> fields) override {
        said.push_back({at, event, std::move(message), std::move(fields)});
    }
    bool shows(telemetry::Level at) const override { return at >= level; }

    telemetry::Level level = telemetry::Level::debug;
    std::vector<telemetry::Happening> said;
};

/// A service with these elements, as the file would give it.
inline config::Service service_with(std::vector<config::Element> elements,
                                    uint64_t chunk_size = 4096) {
    for (size_t i = 0; i < elements.size(); ++i)
        if (elements[i].name.empty()) elements[i].name = "e" + std::to_string(i);
    config::Service service;
    service.name = "web";
    service.filters = std::move(elements);
    service.chunk_size = chunk_size;
    return service;
}

class Carrier {
  public:
    explicit Carrier(std::unique_ptr<filter::Chain> chain) : chain_(std::move(chain)) {}

    /// `bytes` have come. What was not taken when it has closed is not looked at again.
    void give(Direction direction, std::string_view bytes) {
        filter::Bytes input = filter::bytes_of(bytes);
        go(direction,
           [&](filter::Flow& flow, filter::Output& out) { return flow.run(input, now, out); });
    }
    void end(Direction direction) {
        go(direction,
           [&](filter::Flow& flow, filter::Output& out) { return flow.finish(now, out); });
    }
    /// Lets time pass; what is kept back comes out when it is due.
    void let_pass(Duration time, Direction direction) {
        for (const Time until = now + time;;) {
            const Time due = flow(direction).holds_until();
            if (due > until) {
                now = std::max(now, until);
                return;
            }
            now = std::max(now, due);
            go(direction,
               [&](filter::Flow& flow, filter::Output& out) { return flow.release(now, out); });
        }
    }

    filter::Flow& flow(Direction direction) { return chain_->flow(direction); }
    const std::string& got(Direction direction) const {
        return got_[static_cast<size_t>(direction)];
    }

    Time now{};
    bool is_closed = false;
    std::string reason, closed_by;
    Duration waited{};    ///< all in all
    size_t waits = 0;     ///< how often
    size_t out_most = 0;  ///< bytes that were to be sent at once

  private:
    template <class Step>
    void go(Direction direction, Step step) {
        using State = filter::Progress::State;
        filter::Output out;
        for (filter::Progress progress{.state = State::full};
             !is_closed && progress.state != State::hungry;) {
            progress = step(flow(direction), out);
            out_most = std::max(out_most, out.size());
            got_[static_cast<size_t>(direction)] += filter::text_of(out.bytes());
            out.consume(out.size());
            if (progress.state == State::wait) {
                ++waits;
                waited += std::max<Duration>(progress.until - now, 0s);
                now = std::max(now, progress.until);
            }
            if (progress.state != State::closed) continue;
            is_closed = true;
            reason = progress.reason;
            closed_by = progress.element;
        }
    }

    std::unique_ptr<filter::Chain> chain_;
    std::array<std::string, 2> got_;
};

}  // namespace proxify::test
