// SPDX-License-Identifier: Apache-2.0
// What log and hexdump have in common: how a line about a chunk begins.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/format.h"
#include "config/config.h"
#include "filter/element.h"

namespace proxify::filter {

using Fields = std::vector<std::pair<const char*, std::string>>;

inline const char* name_of(Direction direction) {
    return direction == Direction::to_target ? "to_target" : "to_client";
}

inline telemetry::Level level_of(const config::Element& spec) {
    return spec.level == config::LogLevel::debug ? telemetry::Level::debug : telemetry::Level::info;
}

/// Tells of chunks of one session by its log.
class Teller {
  public:
    Teller(const Facts& facts, const config::Element& spec)
        : facts_(facts), name_(spec.name), level_(level_of(spec)) {}

    /// Ask before anything is formatted.
    bool is_heard() const { return facts_.log.shows(level_); }

    /// `what` is told for people, `fields` for machines.
    void tell(const char* event, Direction direction, std::string_view what, Fields more) const {
        Fields fields = {{"session", std::to_string(facts_.session)},
                         {"service", std::string(facts_.service)},
                         {"element", std::string(name_)},
                         {"direction", name_of(direction)}};
        for (auto& field : more) fields.push_back(std::move(field));
        facts_.log.write(level_, event,
                         format("session {} of service {}: {} {} {}", facts_.session,
                                facts_.service, name_, name_of(direction), what),
                         std::move(fields));
    }

  private:
    Facts facts_;
    std::string_view name_;
    telemetry::Level level_;
};

/// Makes elements that are no more than what the file says of them.
template <class Telling>
class TellingMaker final : public Maker {
  public:
    explicit TellingMaker(const config::Element& spec) : spec_(spec) {}
    std::unique_ptr<Element> make(const Facts& facts) const override {
        return std::make_unique<Telling>(facts, spec_);
    }

  private:
    config::Element spec_;
};

}  // namespace proxify::filter
