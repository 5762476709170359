// SPDX-License-Identifier: Apache-2.0
// Ejection: takes a target out for a while because of what real clients met there, whatever checks
// say. The model is Envoy's outlier detection: each ejection is longer than the one before, a
// target that behaves is forgiven step by step, and only a share of a service's targets may be out.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "io/loop.h"
#include "routing/snapshot.h"
#include "telemetry/log.h"

namespace proxify::health {

/// What has become of a target.
enum class Change { up, down, ejected, returned };

/// How often a target has been ejected lately. Pure.
class Penalty {
  public:
    /// It is ejected now: for how long. Once more `time` than the last time, up to `max_time`; and
    /// `time` less for each that has passed since it returned.
    Duration next(Time now, const config::Ejection& spec);
    int times() const { return times_; }

  private:
    int times_ = 0;
    Time returned_{};  ///< from the last one
};

/// Whether one more of `all` targets may be ejected when `out` are. Pure.
bool may_eject(size_t out, size_t all, int max_share);

class Ejections {
  public:
    /// Called after a target was ejected or has returned.
    using OnChange = std::function<void(const std::string& service, balance::Target&, Change,
                                        const std::string& reason)>;

    Ejections(io::Loop& loop, telemetry::Journal& log, OnChange on_change)
        : loop_(loop), log_(log), on_change_(std::move(on_change)) {}
    ~Ejections() { stop(); }

    /// Knows the targets of this snapshot from now on, with what was known of them, and no others.
    void follow(const routing::Snapshot& snapshot);

    /// Ejects a target of this service, unless it is out already, or too many others are, or the
    /// service does not want that.
    void eject(const routing::Service& service, const std::shared_ptr<balance::Target>& target,
               const std::string& reason);

    /// Nobody returns any more.
    void stop();

  private:
    struct Case : io::Timer {
        Case(Ejections& all, std::string of_service, std::shared_ptr<balance::Target> which)
            : Timer([](Timer& timer) {
                  auto& due = static_cast<Case&>(timer);
                  due.ejections.give_back(due, "its time is over");
              }),
              ejections(all),
              service(std::move(of_service)),
              target(std::move(which)) {}
        ~Case() { ejections.loop_.timers().disarm(*this); }
        Ejections& ejections;
        std::string service;
        std::shared_ptr<balance::Target> target;
        Penalty penalty;
    };
    using Cases = std::map<const balance::Target*, std::unique_ptr<Case>>;

    void give_back(Case& which, const std::string& reason);
    void release(balance::Target& target);

    io::Loop& loop_;
    telemetry::Journal& log_;
    OnChange on_change_;
    Cases cases_;  ///< of targets that were ejected at some time
};

}  // namespace proxify::health
