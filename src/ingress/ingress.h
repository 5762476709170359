// SPDX-License-Identifier: Apache-2.0
// Ingress: the captures of type "ingress", from open() to the end of the object: programs at
// network interfaces, present and future, that lead ports of this host elsewhere. For the control
// thread; nothing here waits for anybody.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "ingress/plan.h"
#include "kernel/ingress_program.h"
#include "kernel/interfaces.h"
#include "telemetry/log.h"

namespace proxify::ingress {

/// A listening socket on this port of ours.
using ListenerOn = std::function<int(uint16_t port)>;

/// Whether captures of type ingress are in this config, and are possible together.
Result<bool> check(const config::Config& config);

class Ingress {
  public:
    /// Loads the programs and attaches them to the interfaces, in the calling thread's network
    /// namespace. Nothing is captured yet. An interface that cannot be had is told to the journal.
    static Result<Ingress> open(const config::Config& config, telemetry::Journal& journal);

    /// Captures what the config says. Whoever serves the connections must know it already. After an
    /// error the kernel holds something between old and new; applying again is safe.
    Result<> apply(const config::Config& config, const ListenerOn& listener_on);

    /// May be read from when interfaces have changed: then follow() looks.
    int news_fd() const { return interfaces_.fd(); }
    void follow();

    /// The interfaces that have the programs, by name.
    std::vector<std::string> hooked() const;

    Result<std::vector<kernel::Counter>> counters() const { return program_.counters(); }

  private:
    Ingress(kernel::IngressProgram program, kernel::Interfaces interfaces,
            telemetry::Journal& journal)
        : program_(std::move(program)), interfaces_(std::move(interfaces)), journal_(&journal) {}

    void set_leads(const config::Config& config);
    Result<> attach_all();
    Result<> add_to_scopes(const std::vector<kernel::Interface>& there);
    Result<> prune_scopes();
    bool wants(const kernel::Interface& interface) const;
    void hook(const kernel::Interface& interface);
    void warn_of_missing(const std::vector<kernel::Interface>& there);

    kernel::IngressProgram program_;
    kernel::Interfaces interfaces_;
    telemetry::Journal* journal_;
    kernel::HookKind kind_ = kernel::HookKind::tcx;
    bool is_applied_ = false;  ///< what leads_ says: the last apply() came to its end
    Leads told_;               ///< to the journal
    Leads leads_;              ///< of the config that was applied last, or is to be
    std::set<Scope> covered_;  ///< by these leads
    Entries have_;             ///< in the kernel
    Numbers<uint16_t> listeners_{0, 255};
    Numbers<Scope> scopes_{1, 255};
    using InScope = std::set<std::pair<uint8_t, uint32_t>>;  ///< scope and interface
    InScope in_scope_, in_scope_wanted_;                     ///< the first in the kernel
    std::set<uint32_t> failed_;                              ///< interfaces; each is told of once
    std::set<std::string> missed_;                           ///< names; the same
    std::vector<kernel::Hook> hooks_;                        ///< declared last, so they go first
};

}  // namespace proxify::ingress
