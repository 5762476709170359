// SPDX-License-Identifier: Apache-2.0
#include "resolve/dns.h"

#include <netdb.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "base/format.h"
#include "resolve/message.h"

namespace proxify::resolve {

namespace {

/// What resolv.conf says about these is for programs that somebody waits for. A question is sent to
/// each server after 0, 1 and 3 seconds and given up after 7, with one server.
constexpr int first_timeout_ms = 1000, tries = 3;

constexpr const char* settings_files[] = {"/etc/resolv.conf", "/etc/nsswitch.conf",
                                          "/etc/host.conf"};
constexpr int class_in = 1;

/// Another text when one of the files is another, or has been written.
std::string stamp_of_settings() {
    std::string stamp;
    for (const char* path : settings_files) {
        struct stat info{};
        stat(path, &info);  // all zeros when there is none
        stamp += format("{} {} {} {}.{} ", info.st_dev, info.st_ino, info.st_size,
                        info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
    }
    return stamp;
}

std::string words_for(int status, Kind kind) {
    switch (status) {
        case ARES_ENOTFOUND:
            return "no such name";
        case ARES_ENODATA:
            return kind == Kind::host ? "it has no address" : "it has no SRV records";
        case ARES_ETIMEOUT:
            return "DNS did not answer in time";
        case ARES_EBADRESP:
            return "the answer of DNS is malformed";
        // c-ares asks the next server after each of these, and ends with the last of them.
        case ARES_ECONNREFUSED:
        case ARES_ESERVFAIL:
        case ARES_ENOTIMP:
        case ARES_EREFUSED:
            return "no DNS server could answer";
    }
    return ares_strerror(status);
}

}  // namespace

/// A question on its way through files, DNS and the names that may be meant.
struct Dns::Lookup {
    Question question;
    size_t source = 0;  ///< index into order_
    std::vector<std::string> candidates = {};
    size_t candidate = 0;

    // Of the candidate that is being asked for:
    int parts_pending = 0;
    Answer answer = {};  ///< gathered from the parts; its error is the first failure
    bool has_answer = false;

    /// What to say when nobody knows any of them.
    int nothing = ARES_ENOTFOUND;
};

/// One packet: for A, AAAA or SRV.
struct Dns::Part {
    Dns& dns;
    std::shared_ptr<Lookup> lookup;
    uint16_t type;
};

std::vector<std::string> candidates_for(const std::string& name, size_t ndots,
                                        const std::vector<std::string>& search) {
    if (name.ends_with('.')) return {name};
    std::vector<std::string> candidates;
    for (const auto& domain : search)
        candidates.push_back(domain == "." ? name : name + '.' + domain);
    const bool is_first = static_cast<size_t>(std::ranges::count(name, '.')) >= ndots;
    candidates.insert(is_first ? candidates.begin() : candidates.end(), name);
    return candidates;
}

Dns::Dns(OnAnswer on_answer) : on_answer_(std::move(on_answer)) {
    heed_settings();
}

Dns::~Dns() {
    closing_ = true;
    close_channels();
}

void Dns::heed_settings() {
    std::string stamp = stamp_of_settings();
    if (channel_ && file_ && stamp == stamp_) return;
    close_channels();
    open_channels();
    stamp_ = std::move(stamp);
}

void Dns::open_channels() {
    ares_options options{};
    options.timeout = first_timeout_ms;
    options.tries = tries;
    options.sock_state_cb_data = this;
    options.sock_state_cb = [](void* dns, int socket, int readable, int writable) {
        auto& sockets = static_cast<Dns*>(dns)->sockets_;
        if (readable || writable)
            sockets[socket] =
                static_cast<short>((readable ? POLLIN : 0) | (writable ? POLLOUT : 0));
        else
            sockets.erase(socket);
    };
    const int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    char files[] = "f";
    ares_options only_files{};
    only_files.lookups = files;
    // Either can be missing for want of memory or descriptors; heed_settings() tries again.
    if (ares_init_options(&channel_, &options, mask) != ARES_SUCCESS) channel_ = nullptr;
    if (ares_init_options(&file_, &only_files, ARES_OPT_LOOKUPS) != ARES_SUCCESS) file_ = nullptr;

    ares_options found{};
    int found_mask = 0;
    order_ = "fb";
    ndots_ = 1;
    search_.clear();
    if (!channel_ || ares_save_options(channel_, &found, &found_mask) != ARES_SUCCESS) return;
    if (found.lookups) order_ = found.lookups;
    ndots_ = static_cast<size_t>(found.ndots);
    search_.assign(found.domains, found.domains + found.ndomains);
    ares_destroy_options(&found);
}

void Dns::close_channels() {
    if (channel_) ares_destroy(std::exchange(channel_, nullptr));
    if (file_) ares_destroy(std::exchange(file_, nullptr));
}

void Dns::ask(const Question& question) {
    auto lookup = std::make_shared<Lookup>(Lookup{.question = question});
    lookup->candidates = candidates_for(question.name, ndots_, search_);
    if (channel_ && file_) return go_on(lookup);
    lookup->answer.error = "DNS cannot be used: no memory or no file descriptors are left";
    answer(*lookup);
}

/// From one source to the next, until one has an answer or fails.
void Dns::go_on(const std::shared_ptr<Lookup>& lookup) {
    for (; lookup->source < order_.size(); ++lookup->source) {
        if (order_[lookup->source] == 'b') return ask_candidate(lookup);
        if (look_into_file(*lookup)) return answer(*lookup);
    }
    lookup->answer.error = words_for(lookup->nothing, lookup->question.kind);
    answer(*lookup);
}

/// At once, as always with a file.
bool Dns::look_into_file(Lookup& lookup) {
    if (lookup.question.kind != Kind::host) return false;
    std::string name = lookup.question.name;
    if (name.ends_with('.')) name.pop_back();
    ares_addrinfo_hints hints{};
    hints.ai_flags = ARES_AI_NOSORT;
    hints.ai_family = AF_UNSPEC;
    auto take = [](void* arg, int status, int, ares_addrinfo* list) {
        auto& answer = static_cast<Lookup*>(arg)->answer;
        if (status != ARES_SUCCESS || !list) return;
        answer.v4.emplace();
        answer.v6.emplace();
        for (auto* node = list->nodes; node; node = node->ai_next) {
            if (node->ai_family != AF_INET && node->ai_family != AF_INET6) continue;
            sockaddr_storage address{};
            std::memcpy(&address, node->ai_addr, node->ai_addrlen);
            const Ip ip = Address::from_sockaddr(address).ip;
            (ip.is_v4 ? answer.v4 : answer.v6)->push_back(ip);
        }
        ares_freeaddrinfo(list);
    };
    ares_getaddrinfo(file_, name.c_str(), nullptr, &hints, take, &lookup);
    return lookup.answer.v4.has_value();
}

void Dns::ask_candidate(const std::shared_ptr<Lookup>& lookup) {
    const auto& name = lookup->candidates[lookup->candidate];
    auto ask_for = [&](uint16_t type) {
        ares_query(channel_, name.c_str(), class_in, type, on_reply, new Part{*this, lookup, type});
    };
    // Counted beforehand: c-ares may answer while it is being asked.
    lookup->parts_pending = lookup->question.kind == Kind::host ? 2 : 1;
    if (lookup->question.kind == Kind::service) return ask_for(type_srv);
    ask_for(type_a);
    ask_for(type_aaaa);
}

void Dns::on_reply(void* arg, int status, int, unsigned char* bytes, int size) {
    std::unique_ptr<Part> part(static_cast<Part*>(arg));
    if (part->dns.closing_) return;
    part->dns.take(*part, status, {bytes, static_cast<size_t>(bytes ? size : 0)});
}

void Dns::take(const Part& part, int status, std::span<const uint8_t> message) {
    auto& lookup = *part.lookup;
    auto& answer = lookup.answer;
    std::optional<Reply> reply;
    if (status == ARES_SUCCESS) {
        reply = read_reply(message);
        if (!reply)
            status = ARES_EBADRESP;
        else if (reply->is_empty())
            status = ARES_ENODATA;
    }
    switch (status) {
        case ARES_SUCCESS:
            lookup.has_answer = true;
            answer.ttl = std::min(answer.ttl.value_or(Duration::max()), reply->ttl);
            if (part.type == type_a) answer.v4 = std::move(reply->addresses);
            if (part.type == type_aaaa) answer.v6 = std::move(reply->addresses);
            if (part.type == type_srv) answer.records = std::move(reply->records);
            break;
        case ARES_ENODATA:
        case ARES_ENOTFOUND:
            if (status == ARES_ENODATA) lookup.nothing = ARES_ENODATA;
            if (part.type == type_a) answer.v4.emplace();
            if (part.type == type_aaaa) answer.v6.emplace();
            break;
        case ARES_EDESTRUCTION:
        case ARES_ECANCELLED:
            answer.was_dropped = true;
            break;
        default:
            if (answer.error.empty()) answer.error = words_for(status, lookup.question.kind);
    }
    if (--lookup.parts_pending == 0) conclude(part.lookup);
}

/// All that was asked about a candidate has come back. A failure ends the search: what lies behind
/// it may be another host of the same short name.
void Dns::conclude(const std::shared_ptr<Lookup>& lookup) {
    auto& known = lookup->answer;
    // One family is enough: the other one's last good answer stays as it was.
    if (lookup->has_answer) known.error.clear();
    if (known.was_dropped || lookup->has_answer || !known.error.empty()) return answer(*lookup);
    known = {};
    if (++lookup->candidate < lookup->candidates.size()) return ask_candidate(lookup);
    ++lookup->source;
    go_on(lookup);
}

void Dns::answer(Lookup& lookup) {
    on_answer_(lookup.question, std::move(lookup.answer));
}

std::vector<pollfd> Dns::sockets() const {
    std::vector<pollfd> sockets;
    for (auto [socket, events] : sockets_) sockets.push_back({socket, events, 0});
    return sockets;
}

std::optional<Duration> Dns::patience() const {
    timeval buffer{};
    auto* left = channel_ ? ares_timeout(channel_, nullptr, &buffer) : nullptr;
    if (!left) return std::nullopt;
    return std::chrono::seconds(left->tv_sec) + std::chrono::microseconds(left->tv_usec);
}

void Dns::process(const std::vector<pollfd>& sockets) {
    if (!channel_) return;
    for (const auto& [socket, wanted, got] : sockets)
        if (got)
            ares_process_fd(channel_, got & ~POLLOUT ? socket : ARES_SOCKET_BAD,
                            got & POLLOUT ? socket : ARES_SOCKET_BAD);
    ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);  // what has waited too long
}

}  // namespace proxify::resolve
