// SPDX-License-Identifier: Apache-2.0
#include "cli/cert.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <ostream>
#include <utility>

#include "base/count_text.h"
#include "base/fd.h"
#include "base/format.h"
#include "config/words.h"

namespace proxify::cli {

static constexpr auto usage =
    "proxify cert ca --out NAME [--cn NAME] [--days DAYS] [--force]\n"
    "proxify cert leaf --ca NAME --san www.example.org --san 198.51.100.7 --out NAME";

static constexpr int days_of_authority = 3650, days_of_leaf = 365, days_max = 36500;

static Result<int> read_days(const std::string& text) {
    int days = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), days);
    if (error != std::errc() || end != text.data() + text.size() || days < 1 || days > days_max)
        return fail(Error::of(format("--days: expected a number from 1 to {}, found {}", days_max,
                                     config::quoted(text)),
                              usage));
    return days;
}

Result<CertOrder> read_cert_order(const Options& options) {
    const std::string& kind = options.arguments.at(0);
    if (kind != "ca" && kind != "leaf")
        return fail(
            Error::of(format("cert takes ca or leaf, found {}", config::quoted(kind)), usage));
    auto given = [&](const char* flag) {
        auto found = options.filters.find(flag);
        return found == options.filters.end() ? std::string() : found->second;
    };
    auto names = options.lists.find("san");
    CertOrder order{.out = given("out"), .ca = given("ca"), .wanted = {}, .force = options.force};
    if (names != options.lists.end()) order.wanted.names = names->second;
    if (order.out.empty())
        return fail(
            Error::of(format("cert {} needs --out: NAME for NAME.pem and NAME.key", kind), usage));
    if (kind == "ca" && (!order.ca.empty() || !order.wanted.names.empty()))
        return fail(Error::of(
            format("--{} means nothing to cert ca", order.ca.empty() ? "san" : "ca"), usage));
    if (kind == "leaf" && order.ca.empty())
        return fail(Error::of(
            "cert leaf needs --ca: NAME for the NAME.pem and NAME.key that vouch for it", usage));
    if (kind == "leaf" && order.wanted.names.empty())
        return fail(Error::of("cert leaf needs --san: whom the certificate is for", usage));
    if (order.ca == order.out)
        return fail(
            Error::of(format("--out {} would take the place of the authority", order.out), usage));
    order.wanted.common_name = given("cn");
    if (kind == "ca" && order.wanted.common_name.empty())
        order.wanted.common_name = "proxify authority";
    order.wanted.days = kind == "ca" ? days_of_authority : days_of_leaf;
    if (const auto days = given("days"); options.filters.contains("days")) {
        TRY_TO(count, read_days(days));
        order.wanted.days = count;
    }
    return order;
}

static Result<tls::Pem> read_pem(const std::string& path) {
    std::ifstream file(path);
    if (!file)
        return fail(Error::from_errno(errno, "cannot read " + path,
                                      "make an authority with: proxify cert ca --out NAME"));
    return tls::Pem{.name = path, .text = std::string(std::istreambuf_iterator<char>(file), {})};
}

/// A file that takes its name when it is whole, so that nobody reads half of it.
namespace {
class NewFile {
  public:
    static Result<NewFile> write(std::string path, std::string_view text, mode_t mode) {
        NewFile file(std::move(path));
        ::unlink(file.beside_.c_str());  // of one that was killed here
        const Fd fd =
            Fd::adopt(::open(file.beside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
        if (!fd) return fail(Error::from_errno(errno, "cannot write " + file.path_));
        file.is_there_ = true;
        while (!text.empty()) {
            const ssize_t written = ::write(fd.get(), text.data(), text.size());
            if (written < 0) return fail(Error::from_errno(errno, "cannot write " + file.path_));
            text.remove_prefix(static_cast<size_t>(written));
        }
        return file;
    }
    NewFile(NewFile&& other) noexcept
        : path_(std::move(other.path_)),
          beside_(std::move(other.beside_)),
          is_there_(std::exchange(other.is_there_, false)) {}
    NewFile& operator=(NewFile&&) = delete;
    ~NewFile() {
        if (is_there_) ::unlink(beside_.c_str());
    }

    Result<> take_name(bool force) {
        if (::renameat2(AT_FDCWD, beside_.c_str(), AT_FDCWD, path_.c_str(),
                        force ? 0 : RENAME_NOREPLACE) != 0)
            return fail(Error::from_errno(errno, "cannot write " + path_,
                                          errno == EEXIST ? "--force takes its place" : ""));
        is_there_ = false;
        return {};
    }

  private:
    explicit NewFile(std::string path) : path_(std::move(path)), beside_(path_ + ".new") {}
    std::string path_, beside_;
    bool is_there_ = false;
};
}  // namespace

static Result<> write_both(const CertOrder& order, const tls::Issued& made) {
    const std::string certificate = order.out + ".pem", key = order.out + ".key";
    if (!order.force)
        for (const auto& path : {certificate, key})
            if (struct stat there; ::lstat(path.c_str(), &there) == 0)
                return fail(Error::of(path + " is there already", "--force takes its place"));
    TRY_TO(new_key, NewFile::write(key, made.key, 0600));
    TRY_TO(new_certificate, NewFile::write(certificate, made.certificate, 0644));
    TRY(new_key.take_name(order.force));
    return new_certificate.take_name(order.force);
}

static Result<tls::Issued> make(const CertOrder& order) {
    if (order.ca.empty()) return tls::make_authority(order.wanted);
    TRY_TO(certificate, read_pem(order.ca + ".pem"));
    TRY_TO(key, read_pem(order.ca + ".key"));
    return tls::issue({.certificate = std::move(certificate), .key = std::move(key)}, order.wanted);
}

static Result<std::string> follow(const CertOrder& order) {
    TRY_TO(made, make(order));
    TRY(write_both(order, made));
    std::string names;
    for (const auto& name : order.wanted.names) names += (names.empty() ? " for " : ", ") + name;
    // Rounded: it began a moment ago.
    const auto left = std::chrono::round<std::chrono::days>(made.facts.not_after -
                                                            std::chrono::system_clock::now());
    return format("{0}.pem, {0}.key: {1}{2}, good for {3}\n", order.out,
                  order.ca.empty() ? "an authority" : "a certificate", names,
                  count_text(static_cast<size_t>(left.count()), "day"));
}

int run_cert(const Options& options, std::ostream& out, std::ostream& err) {
    auto order = read_cert_order(options);
    if (!order) {
        err << order.error().text() << '\n';
        return exit_usage;
    }
    auto done = follow(*order);
    if (!done) {
        err << done.error().text() << '\n';
        return exit_failed;
    }
    out << *done;
    return exit_done;
}

}  // namespace proxify::cli
