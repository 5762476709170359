// SPDX-License-Identifier: Apache-2.0
// Book: what is known about names, and what is to be asked when. Pure: answers and the time come
// from outside, so a test turns the clock.
//
// A plain name is one question, for the addresses of a host. A service (an SRV name) is one for its
// records and one more for each host in them; each has a time to live of its own and keeps its last
// good answer for itself. The additional section of an SRV answer is not used: servers cut it short
// when it does not fit, so an address that is missing there may exist all the same.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/endpoint.h"

namespace proxify::resolve {

enum class Kind { host, service };

struct Question {
    Kind kind = Kind::host;
    std::string name;
    auto operator<=>(const Question&) const = default;
};

/// One SRV record (RFC 2782).
struct ServiceRecord {
    uint16_t priority = 0;  ///< lower is preferred
    uint16_t weight = 0;
    std::string host;  ///< in lower case, with a final dot: nothing is appended to it
    uint16_t port = 0;
    auto operator<=>(const ServiceRecord&) const = default;
};

struct Answer {
    std::string error = {};            ///< why there is none; empty when there is one
    bool was_dropped = false;          ///< nobody was asked: that is to be done again
    std::optional<Duration> ttl = {};  ///< none when it came from a file
    std::optional<std::vector<Ip>> v4 = {}, v6 = {};  ///< of a host; none when only the other came
    std::vector<ServiceRecord> records = {};          ///< of a service
};

/// When the next question is due.
class Schedule {
  public:
    /// Some servers give 0 or 1 because they want every client to ask each time. Once a second is
    /// soon enough for those, and bounds what a thousand names can cost.
    static constexpr Duration shortest = 1s;

    explicit Schedule(Time first) : due_(first) {}
    Time due() const { return due_; }

    /// `longest` is the upper bound, even when it is less than `shortest`.
    void answered(Time now, std::optional<Duration> ttl, Duration longest);
    /// After a second first, then twice as long each time.
    void failed(Time now, Duration longest);
    void again(Time now) { due_ = now; }
    void not_later_than(Time latest) { due_ = std::min(due_, latest); }

  private:
    Time due_;
    int failures_ = 0;  ///< in a row
};

/// What has become of a name.
struct Outcome {
    std::string name;
    std::vector<Endpoint> endpoints;  ///< from now on, sorted
    std::vector<Endpoint> before;     ///< until now
    std::string error;                ///< why asking failed; empty when it did not
    bool error_changed = false;
    bool endpoints_changed() const { return endpoints != before; }
};

class Book {
  public:
    /// So many questions are on their way at a time, each with up to two packets: that fits into
    /// the receive buffer of a server's socket, so that a file with many names does not make them
    /// lose each other.
    static constexpr size_t asking_max = 64;
    /// More of one name's are left out, the last in order first. Choosing among thousands has its
    /// price, and whoever runs a DNS server could make us pay it.
    static constexpr size_t endpoints_max = 512;

    /// The names of interest from now on; new ones are due at once. A name is asked again after
    /// `longest` at the latest.
    void follow(const std::vector<Question>& names, Duration longest, Time now);

    /// What is to be asked now. Each of these is to be recorded once, whatever comes of it.
    std::vector<Question> take_due(Time now);
    /// When take_due() has something next; nothing while only answers can change that.
    std::optional<Time> next_due() const;

    /// Gives the names that this changes something for, or that are known for the first time.
    std::vector<Outcome> record(const Question& question, Answer answer, Time now);

    /// The last good answer; empty when there was none yet.
    std::vector<Endpoint> lookup(const std::string& name) const;
    /// Every name was asked for, with or without success.
    bool is_complete() const;

  private:
    struct Entry {
        Schedule schedule;
        bool is_asked = false;  ///< on its way
        bool is_known = false;  ///< asked once at least
        std::string error = {};
        std::vector<Ip> v4 = {}, v6 = {};
        std::vector<ServiceRecord> records = {};
    };
    struct Name {
        Kind kind;
        bool is_known = false;
        std::string error = {};
        std::vector<Endpoint> endpoints = {};
    };

    static void learn(Entry& entry, Kind kind, Answer answer);
    void update_entries(Time now);
    bool depends_on(const Question& name, const Question& question) const;
    std::optional<Outcome> conclude(const std::string& text, Name& name) const;
    std::vector<Endpoint> endpoints_of(const Question& name) const;
    std::string error_of(const Question& name) const;

    std::map<std::string, Name> names_;
    std::map<Question, Entry> entries_;
    Duration longest_ = 30s;
    size_t asking_ = 0;
};

/// SRV weights, 0 to 65535, as ours, 1 to 256, of records with the same priority. Ratios stay where
/// they can. A 0 among others is the smallest weight there is: RFC 2782 gives it "a very small
/// chance". Where all are 0, all are 1.
std::vector<uint32_t> scale_weights(const std::vector<uint16_t>& weights);

/// Those of `endpoints` whose place `others` has not.
std::vector<Endpoint> without(const std::vector<Endpoint>& endpoints,
                              const std::vector<Endpoint>& others);

/// "10.0.0.1, 10.0.0.2", "10.0.0.1:80 (weight 3, priority 1)"; the first of very many.
std::string to_text(const std::vector<Endpoint>& endpoints);

}  // namespace proxify::resolve
