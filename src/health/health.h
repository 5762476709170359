// SPDX-License-Identifier: Apache-2.0
// Health: checks every target in the background, hears of real clients' troubles, and is the only
// writer of a target's state.
//
// A target counts as up until its first check, which alone decides; from then on `fall` bad checks
// in a row take it out and `rise` good ones bring it back. One that is to begin as down waits for
// `rise` good ones, unless it serves clients already when checks of it begin. Real clients teach as
// well: when as many connects of theirs in a row have failed as checks may fail, the target is out
// at once and the next good checks bring it back. A target that is not checked, or whose trouble
// checks do not see, is ejected for a while instead: ejection.h.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "health/ejection.h"
#include "health/probe.h"
#include "io/loop.h"
#include "routing/snapshot.h"
#include "telemetry/log.h"

namespace proxify::health {

/// What a target has done lately, and what that means. Pure.
class Verdict {
  public:
    Verdict(int rise, int fall, bool initially_up = true)
        : rise_(rise), fall_(fall), first_(initially_up), up_(initially_up) {}
    /// The next check went well or badly; gives whether the target is up now.
    bool judge(bool good);
    /// Real clients could not reach it: out, until checks bring it back.
    void condemn();
    bool up() const { return up_; }
    /// Some checks speak against the present state, and not enough yet.
    bool wavers() const { return in_a_row_ > 0; }
    /// Goes on from what another one has found out, by its own measure.
    void continue_from(const Verdict& other) {
        in_a_row_ = other.in_a_row_;
        first_ = other.first_;
        up_ = other.up_;
    }

  private:
    int rise_, fall_;
    int in_a_row_ = 0;  ///< checks that speak against the present state
    bool first_;        ///< the next check alone decides
    bool up_;
};

/// How long to wait for the next check, before any jitter. Pure.
Duration next_interval(const Verdict& verdict, const config::HealthSpec& spec);

/// "ends in 9h30m" or "ended 2h ago", of a certificate that is good for so long yet. Nothing when
/// that is longer than `warn_within`, or when it was said less than a day ago.
std::optional<std::string> certificate_warning(Duration ends_in, Duration warn_within,
                                               std::optional<Time> said, Time now);

class Health {
  public:
    /// A target of this service went up or down, was ejected or has returned. What the service has
    /// left is for Pool::any_available to say.
    using OnChange = std::function<void(const routing::Service&, const balance::Target&, Change)>;

    /// `guard` may be null. All on the loop's thread, `on_change` as well.
    Health(io::Loop& loop, telemetry::Journal& log, dial::Guard* guard, OnChange on_change = {})
        : loop_(loop),
          log_(log),
          common_(loop, log, guard),
          on_change_(std::move(on_change)),
          ejections_(loop, log,
                     [this](const std::string& service, const balance::Target& target,
                            Change change, const std::string& reason) {
                         tell_of_change(service, target, change, reason);
                     }) {}

    /// Checks the targets of this snapshot from now on, and no others.
    void follow(const routing::Snapshot& snapshot);
    /// A target keeps letting real clients down in the same way, so often in a row by now. It need
    /// not be known any more.
    void suspect(const std::string& service, const balance::Target* target,
                 balance::Trouble trouble, uint32_t in_a_row);

    /// What brought a target into the state it has.
    struct Story {
        std::string reason;
        Time since;
    };
    /// Null for one that has been as it is from its first moment.
    const Story* story_of(const balance::Target& target) const {
        auto found = stories_.find(&target);
        return found == stories_.end() ? nullptr : &found->second;
    }

    /// Ends all checks, soon; programs are killed at once.
    void stop();

  private:
    struct Check {
        Check(io::Loop& loop, Subject what, config::HealthSpec how,
              std::shared_ptr<balance::Target> whose)
            : subject(std::move(what)),
              spec(std::move(how)),
              target(std::move(whose)),
              verdict(spec.rise, spec.fall, spec.initially_up || target->up),
              wake(loop) {}
        uint64_t number = 0;  ///< in the order in which they were made
        Subject subject;
        config::HealthSpec spec;
        std::shared_ptr<balance::Target> target;
        Verdict verdict;
        io::Signal wake;
        Probe* probe = nullptr;         ///< while a check is under way
        std::optional<Time> warned_at;  ///< of its certificate
        bool stopping = false;
    };

    io::Task<> run(std::shared_ptr<Check> check);
    void set_state(Check& check, const std::string& reason);
    void tell_of_change(const std::string& service, const balance::Target& target, Change change,
                        const std::string& reason);
    void forget_stories();
    void look_for_panic(const routing::Service& service);
    void warn_of_certificate(Check& check, const Outcome& outcome);
    using Checks = std::map<const balance::Target*, std::shared_ptr<Check>>;
    static void end(const Checks& checks);
    Duration with_jitter(Duration interval);

    io::Loop& loop_;
    telemetry::Journal& log_;
    Common common_;
    OnChange on_change_;
    std::map<std::string, std::shared_ptr<const routing::Service>> services_;
    Checks checks_;
    uint64_t checks_made_ = 0;
    std::map<const balance::Target*, Story> stories_;  ///< of targets that are followed
    Ejections ejections_;
};

}  // namespace proxify::health
