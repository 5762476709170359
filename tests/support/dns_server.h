// SPDX-License-Identifier: Apache-2.0
// DnsServer: answers for the names that a test gives it, over UDP and TCP, and says of all others
// that they do not exist. A program that is to ask it gets resolv_conf() mounted over its own.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/fd.h"
#include "support/dns_message.h"
#include "support/namespace.h"
#include "support/temp_dir.h"

namespace proxify::test {

/// How questions for a name fare.
enum class Manner {
    normal,
    servfail,
    silent,
    garbage,  ///< bytes that are no DNS message, nothing, and then an answer without sense
    only_v4,  ///< SERVFAIL for IPv6 addresses
};

class DnsServer {
  public:
    /// At 127.0.0.1:53 inside `where`.
    explicit DnsServer(const Namespace& where);
    ~DnsServer();

    /// From now on `name` has these addresses, "127.0.0.1" or "::1"; none means that it exists
    /// without any.
    void set(const std::string& name, const std::vector<std::string>& addresses, uint32_t ttl = 1);
    void set_services(const std::string& name, const std::vector<DnsService>& services,
                      uint32_t ttl = 1);
    void set_alias(const std::string& name, const std::string& other, uint32_t ttl = 1);
    /// It exists no more.
    void forget(const std::string& name);
    void set_manner(const std::string& name, Manner manner);
    /// For all names without a manner of their own.
    void set_manner(Manner manner);

    int questions() const { return questions_; }
    /// Those for one name and type.
    int questions(const std::string& name, uint16_t type) const;
    /// Names and types that were asked for at least once.
    size_t different_questions() const;
    int questions_over_tcp() const { return questions_over_tcp_; }
    /// The sockets that asked over UDP so far.
    size_t sources() const;
    /// For Command::mounts.
    std::pair<std::string, std::string> resolv_conf() const;

  private:
    void serve();
    void answer_packet();
    bool answer_stream(int socket);
    std::string reply_to(const DnsQuestion& question, bool over_tcp);
    std::vector<DnsRecord> answers_for(const DnsQuestion& question) const;

    TempDir directory_;
    Fd socket_, listener_, stop_;
    std::vector<Fd> streams_;  ///< touched by the serving thread only
    mutable std::mutex mutex_;
    std::map<std::string, std::vector<DnsRecord>> names_;
    std::map<std::string, Manner> manners_;
    Manner manner_ = Manner::normal;
    std::map<std::pair<std::string, uint16_t>, int> asked_;
    std::set<uint16_t> sources_;
    std::atomic<int> questions_ = 0, questions_over_tcp_ = 0;
    std::thread thread_;
};

}  // namespace proxify::test
