// SPDX-License-Identifier: Apache-2.0
// Plan: what has to change in the kernel so that it captures what a new config says. Pure values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.h"
#include "kernel/ingress_program.h"

namespace proxify::ingress {

/// Names of interfaces; empty for all of them.
using Scope = std::vector<std::string>;

/// What the config says of a port that is dialled.
struct Lead {
    std::optional<uint16_t> to_port = {};  ///< to this port of the host,
    std::optional<uint16_t> listen = {};   ///< or to our listener on this one
    Scope scope = {};                      ///< sorted
    bool operator==(const Lead&) const = default;
};

/// By port that is dialled.
using Leads = std::map<uint16_t, Lead>;

Leads leads_of(const config::Config& config);

/// "port 8000 leads to port 9000"; "port 8000 is not captured any more" without a lead.
std::string describe(uint16_t port, const Lead* lead);

std::set<Scope> scopes_of(const Leads& leads);

/// Whether an interface belongs to one of them.
bool covers(const std::set<Scope>& scopes, std::string_view interface);

/// Small numbers for values, given out for as long as a value is wanted. A number that has become
/// free is given out again only by a later call, when nothing can refer to it any more.
template <class T>
class Numbers {
  public:
    Numbers(uint32_t first, uint32_t last) : first_(first), last_(last) {}

    /// False when there are not enough for all of them: then nothing has changed.
    bool assign(const std::vector<T>& wanted) {
        std::map<T, uint32_t> now;
        for (const auto& one : wanted)
            if (auto found = numbers_.find(one); found != numbers_.end()) now.insert(*found);
        uint32_t next = first_;
        auto is_taken = [&](uint32_t number) {
            for (const auto& [value, taken] : numbers_)
                if (taken == number) return true;
            return false;
        };
        for (const auto& one : wanted) {
            if (now.contains(one)) continue;
            while (is_taken(next)) ++next;
            if (next > last_) return false;
            now.emplace(one, next++);
        }
        numbers_ = std::move(now);
        return true;
    }
    uint32_t of(const T& value) const { return numbers_.at(value); }
    const std::map<T, uint32_t>& all() const { return numbers_; }

  private:
    uint32_t first_, last_;
    std::map<T, uint32_t> numbers_;
};

using Entries = std::map<uint16_t, kernel::IngressPort>;

/// The entries that the kernel has to have. Of `have`, it keeps what flows of before need: they go
/// on when their port leads elsewhere, or nowhere.
Entries make_entries(const Entries& have, const Leads& leads, const Numbers<uint16_t>& listeners,
                     const Numbers<Scope>& scopes);

/// What to write, in this order. Ports that are captured no more come first. Ports that flows will
/// lead to are known before a flow leads there, so that no answer goes out unchanged.
std::vector<std::pair<uint16_t, kernel::IngressPort>> make_plan(const Entries& have,
                                                                const Entries& want);

}  // namespace proxify::ingress
