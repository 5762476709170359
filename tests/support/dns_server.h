// SPDX-License-Identifier: Apache-2.0
// DnsServer: answers for the names that a test gives it, and says of all others that they do not
// exist. A program that is to ask it gets resolv_conf() mounted over its own.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/fd.h"
#include "support/namespace.h"
#include "support/temp_dir.h"

namespace proxify::test {

class DnsServer {
  public:
    /// At 127.0.0.1:53 inside `where`.
    explicit DnsServer(const Namespace& where);
    ~DnsServer();

    /// From now on `name` has these addresses, "127.0.0.1" or "::1"; none means that it exists
    /// without any.
    void set(const std::string& name, const std::vector<std::string>& addresses);
    int questions() const { return questions_; }
    /// For Command::mounts.
    std::pair<std::string, std::string> resolv_conf() const;

  private:
    void serve();
    std::string reply_to(std::string_view question);

    TempDir directory_;
    Fd socket_, stop_;
    std::mutex mutex_;
    std::map<std::string, std::vector<Ip>> names_;
    std::atomic<int> questions_ = 0;
    std::thread thread_;
};

}  // namespace proxify::test
