// SPDX-License-Identifier: Apache-2.0
// Fields: reads the values of one table of the file, key by key, and notes what is wrong with them.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/names.h"
#include "config/problems.h"
#include "config/reader.h"
#include "config/words.h"

namespace proxify::config {

/// What may be written in one kind of table. All sections are listed in fields.cc.
struct Section {
    std::string_view name;    ///< as messages call it: "[[service]]"
    std::string_view prefix;  ///< of a key in messages: "health."
    std::span<const std::string_view> keys;
};

extern const Section file_section, proxify_section, admin_section, log_section, service_section,
    target_section, health_section, timeouts_section, queue_section, ejection_section,
    limits_section, capture_section, filter_section, cache_section, tls_section, target_tls_section,
    tunnel_section, send_proxy_section;

/// All of them, as a schema for editors has to have them.
extern const std::span<const Section* const> all_sections;

constexpr Duration year = 24h * 365;

/// The largest max_connections.
constexpr int connections_max = 1'000'000;

struct Bounds {
    Duration least = 1ms;
    Duration most = year;
};

struct Counts {
    int least, most;
};

struct Sizes {
    uint64_t least, most;  ///< bytes
};

/// A value that may stand alone or in an array.
std::span<const Value> one_or_many(const Value& value);

class Fields {
  public:
    /// Complains about every key that the section does not have.
    Fields(const Table& table, const Section& section, Problems& problems);

    /// The value at `key`, or null.
    const Value* find(std::string_view key) const;
    /// The same for one that has to be a table, written as [key].
    const Table* table(std::string_view key);

    // These leave `out` alone when the key is absent or wrong, and give whether they set it.
    bool duration(std::string_view key, Bounds bounds, Duration& out);
    bool count(std::string_view key, Counts allowed, int& out);
    /// A number of bytes, alone or with a unit.
    bool size(std::string_view key, Sizes allowed, uint64_t& out);
    /// Any bytes, but not none.
    bool text(std::string_view key, size_t bytes_max, std::string& out);
    /// A name that logs and metrics call something by.
    bool name(std::string_view key, std::string& out);
    bool flag(std::string_view key, bool& out);
    bool port(std::string_view key, uint16_t& out);
    /// One port or range, or any number of them in an array; `at` is where each is written.
    void ports(std::string_view key, std::vector<PortRange>& out, std::vector<Position>& at);
    /// One prefix, or any number of them in an array; adds them to `out`, and where each is
    /// written to `at`.
    void prefixes(std::string_view key, std::vector<Prefix>& out, std::vector<Position>& at);
    /// One string, or any number of them, each understood by `read`.
    template <class T>
    void words(std::string_view key, std::expected<T, Complaint> (&read)(std::string_view),
               std::vector<T>& out) {
        auto* value = find(key);
        if (!value) return;
        for (const auto& one : one_or_many(*value)) {
            auto* text = one.template as<std::string>();
            if (!text) {
                expected(one, key, "a string");
            } else if (auto word = read(*text); !word) {
                not_understood(one, key, word.error());
            } else {
                out.push_back(*std::move(word));
            }
        }
    }
    /// `others` are words that people bring along from elsewhere, each with ours for it.
    template <class T, size_t n>
    bool choice(std::string_view key, const Name<T> (&names)[n], T& out,
                std::span<const Name<std::string_view>> others = {}) {
        std::string_view words[n];
        for (size_t i = 0; i < n; ++i) words[i] = names[i].first;
        int found = choose(key, words, others);
        if (found >= 0) out = names[found].second;
        return found >= 0;
    }

    /// Complains: "`key`: expected `what`, found `found`".
    void expected(const Value& found, std::string_view key, std::string_view what,
                  std::string hint = {});
    /// Complains about what a reader of words did not understand.
    void not_understood(const Value& found, std::string_view key, const Complaint& complaint);

    /// A key as messages call it: "health.interval".
    std::string label(std::string_view key) const;

    Problems& problems() { return problems_; }

  private:
    int choose(std::string_view key, std::span<const std::string_view> words,
               std::span<const Name<std::string_view>> others);

    const Table& table_;
    const Section& section_;
    Problems& problems_;
};

/// Complains where there is no table to complain in: "`label`: expected `what`, found `found`".
void expected(const Value& found, std::string_view label, std::string_view what, Problems& problems,
              std::string hint = {});

/// "line:column"
std::string place(Position at);

}  // namespace proxify::config
