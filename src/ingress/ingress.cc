// SPDX-License-Identifier: Apache-2.0
#include "ingress/ingress.h"

#include <algorithm>

#include "base/format.h"

namespace proxify::ingress {

using config::TcHook;
using kernel::Hook;
using kernel::HookKind;
using kernel::Interface;

static std::string join(const std::vector<std::string>& words) {
    std::string out;
    for (const auto& word : words) out += (out.empty() ? "" : ", ") + word;
    return out;
}

static const char* name_of(HookKind kind) {
    return kind == HookKind::tcx ? "tcx" : "clsact";
}

/// What the captures say about the hook; nothing when none says anything.
static Result<std::optional<TcHook>> wanted_hook(const config::Config& config) {
    std::optional<TcHook> wanted;
    for (const auto& capture : config.captures) {
        if (capture.type != config::CaptureType::ingress || capture.hook == TcHook::automatic)
            continue;
        if (wanted && *wanted != capture.hook)
            return fail(
                Error::of("one capture of type \"ingress\" wants hook = \"tcx\" and "
                          "another \"clsact\", but they share the programs",
                          "say the same in all of them, or nothing"));
        wanted = capture.hook;
    }
    return wanted;
}

Result<bool> check(const config::Config& config) {
    TRY_TO(hook, wanted_hook(config));
    if (hook == TcHook::tcx && !kernel::has_tcx())
        return fail(Error::of("hook: this kernel has no tcx links; they came with Linux 6.6",
                              "leave hook out: clsact is used where tcx is not there"));
    return std::ranges::any_of(config.captures, [](const config::Capture& capture) {
        return capture.type == config::CaptureType::ingress;
    });
}

Result<Ingress> Ingress::open(const config::Config& config, telemetry::Journal& journal) {
    TRY(check(config));
    TRY_TO(program, kernel::IngressProgram::load());
    TRY(program.open_door());
    // Word of changes begins before the first list, so that none is missed in between.
    TRY_TO(interfaces, kernel::Interfaces::open());
    Ingress ingress(std::move(program), std::move(interfaces), journal);
    ingress.set_leads(config);
    TRY(ingress.attach_all());
    TRY_TO(ids, ingress.program_.ids());
    journal.info("ingress",
                 format("ingress: programs proxify_ingress id {}, proxify_egress id {}, map "
                        "ingress_ports id {}; hooked by {}: {}",
                        ids.ingress, ids.egress, ids.ports, name_of(ingress.kind_),
                        ingress.hooks_.empty() ? "no interface" : join(ingress.hooked())));
    return ingress;
}

void Ingress::set_leads(const config::Config& config) {
    leads_ = leads_of(config);
    covered_ = scopes_of(leads_);
    if (leads_.empty()) return;
    auto wanted = wanted_hook(config);
    const bool is_free = !wanted || !*wanted;
    kind_ = is_free                   ? (kernel::has_tcx() ? HookKind::tcx : HookKind::clsact)
            : **wanted == TcHook::tcx ? HookKind::tcx
                                      : HookKind::clsact;
}

// ---- interfaces

/// Without a capture that is left nothing new is hooked. What is hooked stays, for flows go on.
bool Ingress::wants(const Interface& interface) const {
    return covers(covered_, interface.name);
}

void Ingress::hook(const Interface& interface) {
    auto hooked = program_.hook(interface, kind_);
    if (!hooked) {
        if (failed_.insert(interface.index).second)
            journal_->warn("interface_not_hooked", format("ingress: nothing is captured at {}: {}",
                                                          interface.name, hooked.error().what));
        return;
    }
    if (!*hooked) return;  // it has gone meanwhile
    failed_.erase(interface.index);
    hooks_.push_back(**std::move(hooked));
    journal_->info("interface_hooked", format("ingress: hooked {}", interface.name));
}

/// Makes the hooks those of the interfaces that are there and wanted.
Result<> Ingress::attach_all() {
    TRY_TO(there, interfaces_.list());
    std::erase_if(hooks_, [&](Hook& hook) {
        auto found = std::ranges::find(there, hook.interface().index, &Interface::index);
        const bool is_gone = found == there.end();
        const bool is_other = !is_gone && (found->has_ethernet != hook.interface().has_ethernet ||
                                           hook.kind() != kind_);
        if (!is_gone && !is_other && found->name != hook.interface().name) {
            journal_->info("interface_renamed", format("ingress: {} is called {} now",
                                                       hook.interface().name, found->name));
            hook.rename(found->name);
        }
        const bool is_unwanted = !leads_.empty() && !is_gone && !wants(*found);
        if (is_gone || is_unwanted || is_other)
            journal_->info("interface_unhooked",
                           format("ingress: {} {}", hook.interface().name,
                                  is_gone ? "is gone" : "is not hooked any more"));
        return is_gone || is_unwanted || is_other;
    });
    std::erase_if(failed_, [&](uint32_t index) {
        return std::ranges::find(there, index, &Interface::index) == there.end();
    });
    TRY(add_to_scopes(there));
    if (is_applied_) TRY(prune_scopes());
    for (const auto& interface : there) {
        bool is_hooked = std::ranges::any_of(
            hooks_, [&](const Hook& one) { return one.interface().index == interface.index; });
        if (!is_hooked && wants(interface)) hook(interface);
    }
    warn_of_missing(there);
    return {};
}

Result<> Ingress::add_to_scopes(const std::vector<Interface>& there) {
    in_scope_wanted_.clear();
    for (const auto& [scope, number] : scopes_.all())
        for (const auto& interface : there)
            if (std::ranges::find(scope, interface.name) != scope.end())
                in_scope_wanted_.emplace(static_cast<uint8_t>(number), interface.index);
    for (const auto& [scope, interface] : in_scope_wanted_) {
        if (in_scope_.contains({scope, interface})) continue;
        TRY(program_.set_scope(scope, interface, true));
        in_scope_.emplace(scope, interface);
    }
    return {};
}

Result<> Ingress::prune_scopes() {
    for (const auto& [scope, interface] : in_scope_)
        if (!in_scope_wanted_.contains({scope, interface}))
            TRY(program_.set_scope(scope, interface, false));
    in_scope_ = in_scope_wanted_;
    return {};
}

void Ingress::warn_of_missing(const std::vector<Interface>& there) {
    std::set<std::string> missing;
    for (const auto& scope : covered_)
        for (const auto& name : scope)
            if (std::ranges::find(there, name, &Interface::name) == there.end())
                missing.insert(name);
    for (const auto& name : missing)
        if (!missed_.contains(name))
            journal_->warn("interface_missing",
                           format("ingress: there is no interface {} at present; it is hooked when "
                                  "it comes",
                                  name));
    missed_ = std::move(missing);
}

void Ingress::follow() {
    auto news = interfaces_.read_news();
    if (!news.is_any) return;
    // One that has gone may be there again by now, under the same number.
    std::erase_if(hooks_, [&](const Hook& hook) {
        const bool is_gone =
            std::ranges::find(news.gone, hook.interface().index) != news.gone.end();
        if (!is_gone && !(news.is_cut && !hook.is_there())) return false;
        journal_->info("interface_unhooked", format("ingress: {} is gone", hook.interface().name));
        return true;
    });
    if (auto done = attach_all(); !done)
        journal_->error("ingress_failed", "ingress: " + done.error().what);
}

std::vector<std::string> Ingress::hooked() const {
    std::vector<std::string> names;
    for (const auto& hook : hooks_) names.push_back(hook.interface().name);
    return names;
}

// ---- ports

/// What leads where is told once for each change.
static void tell_changes(telemetry::Journal& journal, const Leads& before, const Leads& after) {
    for (const auto& [port, lead] : before)
        if (!after.contains(port))
            journal.info("port_released", "ingress: " + describe(port, nullptr));
    for (const auto& [port, lead] : after)
        if (auto had = before.find(port); had == before.end() || had->second != lead)
            journal.info("port_captured", "ingress: " + describe(port, &lead));
}

/// The order is the one in which nobody is misled: listeners and scopes are there before a port
/// refers to them, and their numbers mean nothing else until none does.
Result<> Ingress::apply(const config::Config& config, const ListenerOn& listener_on) {
    TRY(check(config));
    set_leads(config);
    std::vector<uint16_t> listens;
    std::vector<Scope> scopes;
    for (const auto& [port, lead] : leads_) {
        if (lead.listen) listens.push_back(*lead.listen);
        if (!lead.scope.empty()) scopes.push_back(lead.scope);
    }
    if (!listeners_.assign(listens))
        return fail(Error::of("captures of type \"ingress\" have more than 256 listeners",
                              "let several of them share one, by listen"));
    if (!scopes_.assign(scopes))
        return fail(
            Error::of("captures of type \"ingress\" have more than 255 different lists of "
                      "interfaces",
                      "let several of them have the same interfaces"));
    for (const auto& [port, number] : listeners_.all())
        TRY(program_.set_listener(number, listener_on(port)));
    is_applied_ = false;
    TRY(attach_all());

    const Entries want = make_entries(have_, leads_, listeners_, scopes_);
    for (const auto& [port, entry] : make_plan(have_, want)) {
        TRY(program_.set_port(port, entry));
        have_[port] = entry;
    }
    have_ = want;
    is_applied_ = true;
    TRY(prune_scopes());
    tell_changes(*journal_, told_, leads_);
    told_ = leads_;
    return {};
}

}  // namespace proxify::ingress
