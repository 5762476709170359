// SPDX-License-Identifier: Apache-2.0
// Targets: whom the services lead to. Some of them die and come back.
#pragma once

#include <deque>
#include <list>
#include <string>
#include <utility>

#include "support/namespace.h"
#include "support/stream.h"

namespace proxify::test::soak {

struct Target {
    std::string address;
    bool greets = false;
    bool is_mortal = false;
    Fd listener = {};  ///< none while it is dead
    Moment comes_back = {};
    /// When it could not be relied upon; the end of the last is in the future while that lasts.
    std::deque<std::pair<Moment, Moment>> absences = {};

    bool is_alive() const { return static_cast<bool>(listener); }
};

class Targets {
  public:
    /// After a target is back, it may take so long until everybody has noticed.
    static constexpr Millis until_noticed = 5s;

    explicit Targets(const Namespace& where);

    std::list<Target>& all() { return all_; }
    /// One of those that are mortal and alive; null when there is none.
    Target* choose_victim(uint64_t random);
    /// Nobody is listening from now on, for so long.
    void close_door(Target& target, Moment at, Millis absence);
    void open_doors_again(Moment at);
    /// Whether a connection from `since` until now may have suffered from an absence of it.
    bool was_absent(const std::string& address, Moment since) const;
    size_t deaths() const { return deaths_; }

    static const std::string& greeting();

  private:
    void open_door(Target& target) { target.listener = listen_at(where_, target.address); }

    const Namespace& where_;
    std::list<Target> all_;
    size_t deaths_ = 0;
};

}  // namespace proxify::test::soak
