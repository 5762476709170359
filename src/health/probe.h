// SPDX-License-Identifier: Apache-2.0
// Probe: one check under way. It knows what is checked and how, how long that may last, and how to
// end it before: whatever a check waits for, it tells its probe how to cut that wait short.
#pragma once

#include <cerrno>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/address.h"
#include "config/config.h"
#include "dial/dial.h"
#include "health/turnstile.h"
#include "io/loop.h"
#include "telemetry/log.h"
#include "tls/client.h"

namespace proxify::health {

/// What a check found out.
struct Outcome {
    /// `unknown`: something ran out here, which says nothing about the target.
    enum class Is { good, bad, unknown };
    Is is = Is::good;
    std::string reason = "check passed";
    /// Of a target that showed a certificate: how long it is good yet.
    std::optional<Duration> certificate_ends_in = {};

    static Outcome good() { return {}; }
    static Outcome bad(std::string reason) { return {.is = Is::bad, .reason = std::move(reason)}; }
};

/// What is checked.
struct Subject {
    std::string service;
    std::string target;  ///< as a person knows it: "127.0.0.1:9001"
    std::string host;    ///< as the file names it, without a port: "db.internal", "::1"
    Address address;     ///< where it is checked
    bool operator==(const Subject&) const = default;
};

/// What the checks of all targets share.
struct Common {
    io::Loop& loop;
    telemetry::Journal& log;
    dial::Guard* guard;                           ///< may be null
    Turnstile programs;                           ///< that run at a time
    std::map<bool, tls::ClientContext> tls = {};  ///< by `verify`; made when it is needed first
    std::string tls_trouble = {};  ///< why one could not be made, as it was said last

    static constexpr size_t programs_max = 32;
    Common(io::Loop& a_loop, telemetry::Journal& a_log, dial::Guard* a_guard)
        : loop(a_loop), log(a_log), guard(a_guard), programs(a_loop, programs_max) {}
};

class Probe : private io::Timer {
  public:
    Probe(Common& for_all, const Subject& what, const config::HealthSpec& how)
        : Timer([](Timer& timer) { static_cast<Probe&>(timer).end_with(ETIMEDOUT); }),
          common(for_all),
          subject(what),
          spec(how) {}
    ~Probe() { common.loop.timers().disarm(*this); }

    /// The check's time begins to run.
    void begin() { common.loop.timers().arm(*this, common.loop.now() + spec.timeout); }
    void cancel() { end_with(ECANCELED); }
    /// 0, or why it is to end: ETIMEDOUT, ECANCELED.
    int ended() const { return ended_; }

    /// Cuts the present wait short. Set by whoever waits, called once at most.
    std::function<void()> interrupt;

    Common& common;
    const Subject& subject;
    const config::HealthSpec& spec;

  private:
    void end_with(int error) {
        if (std::exchange(ended_, error) != 0) return;
        // It may be the end of all that waited, and of this probe.
        if (auto cut_short = std::exchange(interrupt, nullptr)) cut_short();
    }
    int ended_ = 0;
};

/// What it means that something failed with this errno value.
Outcome failed_with(int error, const Probe& probe);

}  // namespace proxify::health
