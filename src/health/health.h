// SPDX-License-Identifier: Apache-2.0
// Health: checks every target in the background and is the only writer of Target::up.
//
// A target counts as up until its first check, which alone decides; from then on `fall` bad checks
// in a row take it out and `rise` good ones bring it back. Real clients teach as well: when as many
// connects of theirs in a row have failed as checks may fail, the target is out at once and the
// next good checks bring it back.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "dial/dial.h"
#include "io/loop.h"
#include "routing/snapshot.h"
#include "telemetry/log.h"

namespace proxify::health {

/// What a target has done lately, and what that means. Pure.
class Verdict {
  public:
    Verdict(int rise, int fall) : rise_(rise), fall_(fall) {}
    /// The next check went well or badly; gives whether the target is up now.
    bool judge(bool good);
    /// Real clients could not reach it: out, until checks bring it back.
    void condemn();
    bool up() const { return up_; }

  private:
    int rise_, fall_;
    int in_a_row_ = 0;  ///< checks that speak against the present state
    bool first_ = true;
    bool up_ = true;
};

class Health {
  public:
    /// A target of this service came up or went down. What the service has left is for
    /// Pool::any_available to say.
    using OnChange = std::function<void(const routing::Service&, const balance::Target&)>;

    /// `guard` may be null. All on the loop's thread, `on_change` as well.
    Health(io::Loop& loop, telemetry::Journal& log, dial::Guard* guard, OnChange on_change = {})
        : loop_(loop), log_(log), guard_(guard), on_change_(std::move(on_change)) {}

    /// Checks the targets of this snapshot from now on, and no others.
    void follow(const routing::Snapshot& snapshot);
    /// Connects of real clients to this target keep failing.
    void suspect(const std::string& service, const balance::Target* target);
    /// Ends all checks, soon.
    void stop();

  private:
    struct Check {
        Check(io::Loop& loop, std::string service_name, config::HealthSpec how, Address where,
              std::shared_ptr<balance::Target> what)
            : service(std::move(service_name)),
              spec(how),
              address(where),
              target(std::move(what)),
              verdict(how.rise, how.fall),
              wake(loop) {}
        std::string service;
        config::HealthSpec spec;
        Address address;
        std::shared_ptr<balance::Target> target;
        Verdict verdict;
        io::Signal wake;
        dial::Attempt attempt;
        bool stopping = false;
    };

    io::Task<> run(std::shared_ptr<Check> check);
    void set_state(Check& check, const std::string& reason);
    void tell_of_change(const std::string& service, const balance::Target& target);
    static void end(Check& check);
    Duration with_jitter(Duration interval);

    io::Loop& loop_;
    telemetry::Journal& log_;
    dial::Guard* guard_;
    OnChange on_change_;
    std::map<std::string, std::shared_ptr<const routing::Service>> services_;
    std::map<const balance::Target*, std::shared_ptr<Check>> checks_;
};

}  // namespace proxify::health
