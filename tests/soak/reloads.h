// SPDX-License-Identifier: Apache-2.0
// Reloads: targets.toml as it is edited again and again, well and badly, and the ports that people
// open and close by hand beside it. Knows at any time which ports must be open, and which may be.
#pragma once

#include <bitset>
#include <string>
#include <vector>

#include "soak/journal.h"
#include "soak/plan.h"
#include "soak/random.h"
#include "support/namespace.h"

namespace proxify::test::soak {

enum class PortState { open, closed, changing };

class Reloads {
  public:
    Reloads(const Namespace& where, std::string path, uint64_t seed);

    // These do nothing while the last edit has not been heeded yet.
    void edit_well(Random& random);
    void edit_badly(Random& random);
    /// Opens or closes a port with bpftool, where there is one.
    void turn_a_port_by_hand(Random& random, const KernelIds& ids);

    /// Looks whether proxify has heeded the last edit; adds to `problems` when that takes too long.
    void look(const Journal& journal, Moment at, std::vector<std::string>& problems);

    PortState state(uint16_t port) const;
    bool is_waiting() const { return waiting_for_ != Waiting::nothing; }
    int applied() const { return applied_; }
    int refused() const { return refused_; }
    int by_hand() const { return by_hand_; }

    /// The services to which a port of this family may lead.
    static std::vector<std::string> services_of(Family family);

  private:
    enum class Waiting { nothing, applied, refused };
    using Ports = std::bitset<65536>;

    std::string draw(Random& random);
    void write(const std::string& text, Random& random);

    const Namespace& where_;
    std::string path_;
    bool has_bpftool_;
    int generation_ = 0;
    Ports running_, next_, opened_by_hand_;
    std::string good_;  ///< the last good text
    Waiting waiting_for_ = Waiting::nothing;
    bool in_place_ = false;  ///< how the last edit was written
    bool was_bad_ = false;   ///< what proxify has looked at last
    Moment since_{};
    int applied_ = 0, refused_ = 0, by_hand_ = 0;
};

}  // namespace proxify::test::soak
