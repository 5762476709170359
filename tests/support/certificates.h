// SPDX-License-Identifier: Apache-2.0
// Certificates for tests: an authority, what it vouches for and what it takes back, made in memory
// with the dates and names that a test wants. PEM goes in files, as programs take it.
//
//     Authority ca("test CA");
//     Leaf site = ca.leaf({.cn = "www.example.org", .names = {"DNS:www.example.org"}});
//     write_file(directory / "site.pem", site.both());
//     write_file(directory / "ca.pem", ca.certificate());
//     write_file(directory / "crl.pem", ca.revoke({&site}));
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace proxify::test {

enum class KeyKind { ec, rsa };

struct LeafOptions {
    std::string cn = "leaf";              ///< empty for none
    std::vector<std::string> names = {};  ///< "DNS:*.example.org", "IP:127.0.0.1", "URI:spiffe://x"
    /// From now; negative for what has been.
    std::chrono::seconds begins = -std::chrono::hours(1), ends = std::chrono::hours(24);
    KeyKind key = KeyKind::ec;
};

/// A certificate and its key, in PEM.
struct Leaf {
    std::string certificate, key;
    std::string fingerprint;  ///< SHA-256, 64 small hexadecimal digits
    std::string both() const { return certificate + key; }
};

class Authority {
  public:
    explicit Authority(const std::string& cn = "test CA", KeyKind key = KeyKind::ec);
    ~Authority();
    Authority(Authority&&) noexcept;

    const std::string& certificate() const { return pem_; }
    Leaf leaf(const LeafOptions& options = {}) const;
    /// An authority below this one. What it vouches for needs its certificate behind it.
    Authority intermediate(const std::string& cn) const;
    /// A list of revoked certificates with these in it.
    std::string revoke(const std::vector<const Leaf*>& leaves) const;

  private:
    struct Pair;
    explicit Authority(std::unique_ptr<Pair> pair);
    std::unique_ptr<Pair> pair_;
    std::string pem_;
};

}  // namespace proxify::test
