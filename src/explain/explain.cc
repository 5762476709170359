// SPDX-License-Identifier: Apache-2.0
#include "explain/explain.h"

#include <algorithm>
#include <array>

#include "base/format.h"
#include "config/names.h"
#include "explain/choice.h"
#include "kernel/listeners.h"

namespace proxify::explain {

using kernel::Landing;
using routing::Route;
using routing::Service;

namespace {

/// One explanation in the making. Each part of the way says whether it goes on.
class Walk {
  public:
    Walk(const Question& question, const Scene& scene) : scene_(scene) { out_.question = question; }
    Result<Explanation> go() &&;

  private:
    bool pass_kernel(const steering::Explained& found);
    Result<bool> meet_host();
    void accepted();
    bool admits(const Service& service);
    bool has_place(const Service& service);

    bool find(const char* stage, std::string finding) {
        out_.steps.push_back({stage, std::move(finding), false});
        return true;
    }
    bool decide(const char* stage, std::string finding, Outcome outcome, std::string client_sees) {
        out_.steps.push_back({stage, std::move(finding), true});
        out_.outcome = outcome;
        out_.client_sees = std::move(client_sees);
        return false;
    }
    bool turn_away(const char* stage, std::string finding, Landing landing) {
        if (landing == Landing::sink)
            return decide(stage, std::move(finding), Outcome::dropped, "no answer");
        return decide(stage, std::move(finding), Outcome::refused, "connection refused (a reset)");
    }
    bool reset(const char* stage, std::string finding) {
        return decide(stage, std::move(finding), Outcome::reset_after_accept,
                      "the connection is accepted, then reset");
    }
    const Service* named(const std::string& name) const;
    std::string access_words(const Service* service) const;
    std::string down_words(const Service* service) const;

    const Ip& client() const { return out_.question.client.ip; }
    const Address& destination() const { return out_.question.destination; }

    const Scene& scene_;
    Explanation out_;
};

/// "service web", or what stands for it.
std::string called(const std::string& service) {
    return service.empty() ? "no service" : "service " + service;
}

/// "web (www.example.org, *.example.org), rest (other names)"
std::string told_apart(const routing::Names& names) {
    constexpr size_t listed_max = 8;
    const auto& services = names.services();
    std::string out;
    for (size_t i = 0; i < services.size() && i < listed_max; ++i) {
        std::string words;
        for (const auto& name : services[i]->spec.sni) words += (words.empty() ? "" : ", ") + name;
        out += format("{}{} ({})", out.empty() ? "" : ", ", services[i]->name,
                      words.empty() ? "other names, and none" : words);
    }
    if (services.size() > listed_max) out += format(" and {} more", services.size() - listed_max);
    return out;
}

/// The way of a SYN through the program, as far as it went. Its own word says where it left.
enum class Reached { ports, own_dials, addresses, lists, state, rates, listener };

Reached reached(std::string_view outcome) {
    struct Exit {
        std::string_view outcome;
        Reached at;
    };
    constexpr std::array exits{Exit{"ended", Reached::ports},
                               Exit{"not_ours", Reached::ports},
                               Exit{"passed_own_dial", Reached::own_dials},
                               Exit{"passed_other_address", Reached::addresses},
                               Exit{"denied", Reached::lists},
                               Exit{"refused_down", Reached::state},
                               Exit{"dropped_down", Reached::state},
                               Exit{"passed_down", Reached::state},
                               Exit{"limited", Reached::rates}};
    const auto* exit = std::ranges::find(exits, outcome, &Exit::outcome);
    return exit == exits.end() ? Reached::listener : exit->at;
}

/// What one list says of a client, in words. The list itself was asked already.
std::string list_words(const config::Access& access, const Ip& client, std::string_view whose) {
    const Prefix* longest = nullptr;
    bool is_denied = false;
    for (const auto* prefixes : {&access.allow, &access.deny})
        for (const auto& prefix : *prefixes)
            if (prefix.contains(client) && (!longest || prefix.length > longest->length)) {
                longest = &prefix;
                is_denied = prefixes == &access.deny;
            }
    if (longest) return format("{} {} {}", whose, is_denied ? "denies" : "allows", longest->text());
    return access.allow.empty() ? format("{} does not name it", whose)
                                : format("{} allows others by name only", whose);
}

}  // namespace

std::string_view to_text(Outcome outcome) {
    switch (outcome) {
        case Outcome::joined:
            return "joined";
        case Outcome::queued:
            return "queued";
        case Outcome::reset_after_accept:
            return "reset-after-accept";
        case Outcome::up_to_its_name:
            return "up-to-its-name";
        case Outcome::refused:
            return "refused";
        case Outcome::dropped:
            return "dropped";
        case Outcome::local_listener:
            return "passed-to-local-listener";
        case Outcome::refused_by_the_host:
            return "refused-by-nobody-listening";
    }
    return {};
}

Result<Explanation> explain(const Question& question, const Scene& scene) {
    if (question.client.ip.is_v4 != question.destination.ip.is_v4)
        return fail(Error::of(format("{} cannot reach {}: one is IPv4, the other IPv6",
                                     question.client.text(), question.destination.text()),
                              "give two addresses of one family"));
    return Walk(question, scene).go();
}

namespace {

Result<Explanation> Walk::go() && {
    if (scene_.is_here && !scene_.is_here(destination().ip))
        find("host", format("{} is no address of this host: what follows is for a SYN that the "
                            "kernel takes for its own all the same",
                            destination().ip.text()));
    bool is_in = false;
    if (scene_.steering) {
        TRY_TO(found, scene_.steering->explain(out_.question.client, destination()));
        for (const auto& other : found.others) find("steering", other);
        is_in = pass_kernel(found);
        if (found.landing != Landing::host) {
            if (is_in) accepted();
            return std::move(out_);
        }
    }
    TRY_TO(is_ours, meet_host());
    if (is_ours) accepted();
    return std::move(out_);
}

/// What the steering program found, question by question. True when the SYN is in, at the listener.
bool Walk::pass_kernel(const steering::Explained& found) {
    const auto at = reached(found.outcome);
    const auto port = destination().port;
    out_.service = found.service;
    const Service* service = named(found.service);

    if (at == Reached::ports) return find("steering", format("{} (port {})", found.meaning, port));
    if (at == Reached::own_dials || at == Reached::addresses)
        return find("steering", format("port {} is in proxy_ports; {}", port, found.meaning));
    find("steering", format("port {} is in proxy_ports; at {} {}", port, destination().ip.text(),
                            found.is_by_name ? "services share it by name"
                                             : "it belongs to " + called(found.service)));

    // Where a header may name somebody else, the kernel leaves the service's own list to us.
    const bool judges_all = !service || service->spec.accept_proxy.empty();
    const auto access = access_words(judges_all ? service : nullptr);
    if (at == Reached::lists) return turn_away("access", access, found.landing);
    find("access", access);

    if (at == Reached::state) {
        auto words = format("{}: {}", down_words(service), found.meaning);
        if (found.landing == Landing::host) return find("state", std::move(words));
        return turn_away("state", std::move(words), found.landing);
    }
    if (!found.is_by_name) find("state", down_words(service));

    const int rate =
        service && judges_all && service->spec.sni.empty() ? service->spec.limits.source_rate : 0;
    if (at == Reached::rates)
        return turn_away("rate", format("{}: {} in a second", found.meaning, rate), found.landing);
    if (rate != 0)
        find("rate",
             format("{} has not used up its {} connections in a second", client().text(), rate));

    if (found.landing == Landing::listener)
        return find("listener", format("it is handed to the listener on port {}, which accepts it",
                                       scene_.listener_port.value_or(0)));
    return find("listener", std::string(found.meaning));
}

/// The kernel's own look for a listener. True when it finds one of ours.
Result<bool> Walk::meet_host() {
    const auto port = destination().port;
    if (scene_.doors.way_to(port) == dial::Guard::Way::own) {
        find("listener", format("proxify itself listens on port {}, and accepts it", port));
        return true;
    }
    out_.service.clear();
    TRY_TO(listeners, kernel::tcp_listeners_here());
    const auto* found = kernel::find_listener(listeners, destination());
    if (!found)
        return decide(
            "listener", format("nobody listens on {}", destination().text()),
            Outcome::refused_by_the_host,
            format("connection refused (a reset), for nobody listens on {}", destination().text()));
    std::vector one{*found};
    kernel::name_processes(one);
    const auto who = one[0].process.empty() ? "an unknown process" : one[0].process;
    return decide("listener", format("{} listens on {}", who, found->address.text()),
                  Outcome::local_listener,
                  format("whatever {} on {} says", who, found->address.text()));
}

/// The life of a session up to its target: see Worker::serve() and Session::carry().
void Walk::accepted() {
    const bool is_steered = scene_.steering != nullptr;
    const auto is_by_hand = [&](uint16_t port) {
        return is_steered && scene_.steering->is_added_by_hand(port);
    };
    auto [service, by] = scene_.snapshot.route(destination(), is_steered, scene_.now, is_by_hand);
    if (!service) {
        out_.service.clear();
        reset("service",
              format("no service has port {} at {}{}", destination().port, destination().ip.text(),
                     is_steered && !scene_.snapshot.has_port(destination().port)
                         ? ", and there is no default_service"
                         : ""));
        return;
    }
    if (service->names) {
        out_.service.clear();
        const auto words = access_words(nullptr);
        if (!service->admits(client())) {
            reset("access", words);
            return;
        }
        if (!scene_.steering) find("access", words);
        decide(
            "service",
            format("the name in the client's TLS hello decides: {}", told_apart(*service->names)),
            Outcome::up_to_its_name,
            "the connection is accepted; what it asks for in its TLS hello decides the rest");
        return;
    }
    out_.service = service->name;
    if (by == Route::By::otherwise)
        find("service", format("service {} is the default_service, and no other has port {} at {}",
                               service->name, destination().port, destination().ip.text()));
    else
        find("service", format("service {} {} port {} at {}", service->name,
                               by == Route::By::listed ? "has" : "had until a moment ago",
                               destination().port, destination().ip.text()));
    if (service->takes_header_from(client()))
        find("header", format("{} is in accept_proxy: a PROXY header has to come first, and the "
                              "client that it names is judged; what follows is for one that names "
                              "none (LOCAL)",
                              client().text()));
    if (admits(*service) && has_place(*service)) explain_choice(*service, scene_, out_);
}

bool Walk::admits(const Service& service) {
    const auto words = access_words(&service);
    if (!service.admits(client())) return reset("access", words);
    // With steering it was said already.
    const bool was_said = scene_.steering && service.spec.accept_proxy.empty();
    return was_said || find("access", words);
}

bool Walk::has_place(const Service& service) {
    using Answer = access::Sources::Answer;
    if (!service.sources) return true;
    const auto limits = service.limits_at(destination().port, scene_.listener_port);
    if (limits == access::SourceLimits{}) return true;
    const auto has = service.sources->sessions_of(client());
    const auto sessions = limits.sessions == 0 ? std::string()
                                               : format("{} has {} of {} sessions", client().text(),
                                                        has, limits.sessions);
    switch (service.sources->would_answer(client(), limits, scene_.now)) {
        case Answer::welcome:
            break;
        case Answer::too_many_sessions:
            return reset("sessions", sessions);
        case Answer::too_fast:
            return reset("rate", format("{} opened more connections than {} in a second",
                                        client().text(), limits.rate));
    }
    if (limits.sessions != 0) find("sessions", sessions);
    if (limits.rate != 0)
        find("rate", format("{} has not used up its {} connections in a second", client().text(),
                            limits.rate));
    return true;
}

const Service* Walk::named(const std::string& name) const {
    for (const auto& service : scene_.snapshot.services())
        if (service && service->name == name) return service.get();
    return nullptr;
}

/// Both lists. `service` may be null: the common one is for all.
std::string Walk::access_words(const Service* service) const {
    const auto& common = scene_.snapshot.config().access;
    std::string words = list_words(common, client(), "the list of all services");
    if (service)
        words += "; " + list_words(service->spec.access, client(),
                                   format("that of service {}", service->name));
    return format("{}: {}", client().text(), words);
}

std::string Walk::down_words(const Service* service) const {
    if (!service) return "no service, so no targets";
    const auto [available, all] = service->pool.count();
    auto text =
        format("{} of {} targets of service {} are available", available, all, service->name);
    if (!service->pool.any_available())
        text += format(", and when_down says {}",
                       config::name_of(service->spec.when_down, config::when_down_names));
    return text;
}

}  // namespace

}  // namespace proxify::explain
