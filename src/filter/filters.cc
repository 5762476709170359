// SPDX-License-Identifier: Apache-2.0
#include "filter/filters.h"

#include <algorithm>

#include "base/format.h"
#include "filter/makers.h"

namespace proxify::filter {

using Type = config::ElementType;

static std::shared_ptr<const Maker> make(const config::Element& spec,
                                         const std::shared_ptr<stats::Element>& stats) {
    switch (spec.type) {
        case Type::log:
            return make_log(spec);
        case Type::hexdump:
            return make_hexdump(spec);
        case Type::count:
            return make_count(stats);
        case Type::replace:
            return make_replace(spec);
        case Type::rate:
            return make_rate(spec);
        case Type::limit_bytes:
            return make_limit_bytes(spec);
        case Type::match:
            return make_match(spec);
        case Type::lua:
            break;
    }
    return nullptr;
}

std::shared_ptr<const Filters> Filters::build(const config::Service& service,
                                              const Filters* before) {
    if (service.filters.empty()) return nullptr;
    auto filters = std::make_shared<Filters>();
    filters->chunk_size_ = service.chunk_size;
    for (const auto& spec : service.filters) {
        const Entry* known = nullptr;
        if (before)
            for (const auto& entry : before->entries_)
                if (entry.spec.name == spec.name) known = &entry;
        auto stats = known ? known->stats : std::make_shared<stats::Element>();
        auto maker = known && known->spec == spec ? known->maker : make(spec, stats);
        filters->entries_.push_back({spec, std::move(maker), std::move(stats)});
    }
    return filters;
}

std::unique_ptr<Chain> Filters::begin(const Facts& facts) const {
    std::vector<Link> links;
    links.reserve(entries_.size());
    for (const auto& [spec, maker, stats] : entries_) {
        auto sees = [&](Direction direction) {
            if (spec.direction && *spec.direction != direction) return nothing;
            const uint64_t appetite = maker->appetite(direction);
            return spec.head == 0 ? appetite : std::min(appetite, spec.head);
        };
        links.push_back({.element = maker->make(facts),
                         .name = spec.name,
                         .to_target = sees(Direction::to_target),
                         .to_client = sees(Direction::to_client),
                         .closes_on_error = spec.on_error == config::OnError::close,
                         .stats = stats.get()});
    }
    auto on_failure = [&log = facts.log, session = facts.session,
                       service = std::string(facts.service)](std::string_view element,
                                                             const std::string& error) {
        log.error("element_failed", format("session {} of service {}: element {} failed: {}",
                                           session, service, element, error));
    };
    return std::make_unique<Chain>(chunk_size_, std::move(links), on_failure);
}

}  // namespace proxify::filter
