// SPDX-License-Identifier: Apache-2.0
// Dns: asks one question at a time for each name, of /etc/hosts and of the DNS servers in
// /etc/resolv.conf, and never waits: somebody polls its sockets. The only file that knows how
// c-ares is driven.
//
// What decides is what decides for other programs: the order of "files" and "dns" on the line
// "hosts:" in nsswitch.conf, and "nameserver", "search", "domain", "rotate" and "ndots" in
// resolv.conf. Other modules of nsswitch.conf (mdns, myhostname, ldap...) are libc's own and are
// passed over.
#pragma once

#include <ares.h>
#include <poll.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "resolve/book.h"

namespace proxify::resolve {

class Dns {
  public:
    using OnAnswer = std::function<void(const Question&, Answer)>;

    /// Each question gets one answer, which may come while it is being asked. None comes once the
    /// Dns is being destroyed.
    explicit Dns(OnAnswer on_answer);
    ~Dns();
    Dns(Dns&&) = delete;

    /// Looks whether resolv.conf or nsswitch.conf is another than before. If so, what is on its way
    /// is answered as dropped.
    void heed_settings();
    void ask(const Question& question);

    /// What to wait for, and at most how long.
    std::vector<pollfd> sockets() const;
    std::optional<Duration> patience() const;
    /// After the wait.
    void process(const std::vector<pollfd>& sockets);

  private:
    struct Lookup;
    struct Part;

    void open_channels();
    void close_channels();
    void go_on(const std::shared_ptr<Lookup>& lookup);
    bool look_into_file(Lookup& lookup);
    void ask_candidate(const std::shared_ptr<Lookup>& lookup);
    static void on_reply(void* part, int status, int timeouts, unsigned char* bytes, int size);
    void take(const Part& part, int status, std::span<const uint8_t> message);
    void conclude(const std::shared_ptr<Lookup>& lookup);
    void answer(Lookup& lookup);

    OnAnswer on_answer_;
    ares_channel channel_ = nullptr;
    ares_channel file_ = nullptr;  ///< one that only reads /etc/hosts, at once
    bool closing_ = false;
    std::map<int, short> sockets_;  ///< and what c-ares waits for
    std::string stamp_;             ///< of the files that say how to ask

    // From those files:
    std::string order_;  ///< 'f' for files, 'b' for DNS
    size_t ndots_ = 1;
    std::vector<std::string> search_;
};

/// What is asked for one after the other when somebody writes `name`: resolv.conf(5), "search" and
/// "ndots".
std::vector<std::string> candidates_for(const std::string& name, size_t ndots,
                                        const std::vector<std::string>& search);

}  // namespace proxify::resolve
