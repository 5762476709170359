// SPDX-License-Identifier: Apache-2.0
// Below is one table for each kind of thing that has metrics: the name of a metric, what it says,
// and where its value is found. A page is each table held against all things of its kind.
#include "metrics/metrics.h"

#include <span>

#include "base/format.h"
#include "config/names.h"
#include "filter/filters.h"

namespace proxify::metrics {

namespace {

using stats::Bytes;

template <class Thing>
struct Metric {
    std::string_view name;
    Type type;
    std::string_view help;
    void (*write)(Page&, const Thing&);
};

// The things. `labels` says which one it is.

struct ServiceThing {
    std::string labels;
    const stats::Service& stats;
    const routing::Service* service;  ///< null for what no service was found for
};

struct CacheThing {
    std::string labels;
    const cache::Store& store;
    const stats::Cache& stats() const { return *store.stats(); }
};

/// TLS of a service with one side.
struct TlsThing {
    std::string labels;
    const stats::Tls& stats;
};

struct CertificateThing {
    std::string labels;
    std::chrono::sys_seconds ends;
};

/// One of a service's tls.allowed_names.
struct AllowedThing {
    std::string labels;
    const stats::Counter& clients;
};

struct TargetThing {
    std::string labels;
    const balance::Target& target;
    bool has_left = false;  ///< it is in the file no more; sessions still hold it
};

/// One direction that an element sees.
struct ElementThing {
    std::string labels;
    const stats::Element::Way& stats;
    bool counts;  ///< it is of the type that counts and does nothing else
};

struct PortThing {
    std::string labels;
    const stats::Port& stats;
};

struct AnswersThing {
    std::string labels;
    const std::vector<Answer>& answers;
};

struct WorkerThing {
    std::string labels;
    const stats::Worker& worker;
};

std::string with(std::string_view labels, std::string_view name, std::string_view value) {
    return labels.empty() ? label(name, value) : format("{},{}", labels, label(name, value));
}

void add_bytes(Page& page, std::string_view labels, const Bytes& bytes) {
    page.add(with(labels, "direction", "to_target"), bytes.to_target.value());
    page.add(with(labels, "direction", "to_client"), bytes.to_client.value());
}

void add_answers(Page& page, const AnswersThing& it) {
    for (const auto& [name, count] : it.answers) page.add(with(it.labels, "answer", name), count);
}

void add_time(Page& page, std::string_view labels, WallTime time) {
    page.add_seconds(labels, std::chrono::duration<double>(time.time_since_epoch()).count());
}

/// Where nothing limits how many there are at once, nobody waits.
bool has_line(const routing::Service& service) {
    return service.spec.max_connections > 0 ||
           std::ranges::any_of(service.spec.targets,
                               [](const auto& target) { return target.max_connections > 0; });
}

uint64_t active(const stats::Service& stats) {
    // In this order: of two that are read one after the other, sessions is never the smaller one.
    uint64_t ended = 0;
    for (const auto& ending : stats.endings.list()) ended += ending.value;
    return std::max(stats.sessions.value(), ended) - ended;
}

constexpr Metric<Input> of_proxify[] = {
    {"proxify_build_info", Type::gauge, "Always 1; the version is a label.",
     [](Page& page, const Input& it) { page.add(label("version", it.version), 1); }},
    {"proxify_start_time_seconds", Type::gauge, "When proxify was started, since the epoch.",
     [](Page& page, const Input& it) { add_time(page, "", it.started_at); }},
    {"proxify_config_last_reload_successful", Type::gauge,
     "1, or 0 when the file that is there now was refused and an older one is running.",
     [](Page& page, const Input& it) { page.add("", !it.is_refused); }},
    {"proxify_config_last_reload_success_timestamp_seconds", Type::gauge,
     "When the running configuration was put in force, since the epoch.",
     [](Page& page, const Input& it) { add_time(page, "", it.reloaded_at); }},
    {"proxify_log_dropped_lines_total", Type::counter,
     "Log lines that were dropped because they came faster than they could be written.",
     [](Page& page, const Input& it) { page.add("", it.log_lines_dropped); }},
};

constexpr Metric<ServiceThing> of_services[] = {
    {"proxify_sessions_total", Type::counter, "Sessions that began.",
     [](Page& page, const ServiceThing& it) { page.add(it.labels, it.stats.sessions.value()); }},
    {"proxify_active_sessions", Type::gauge, "Sessions that have not ended yet.",
     [](Page& page, const ServiceThing& it) { page.add(it.labels, active(it.stats)); }},
    {"proxify_session_endings_total", Type::counter,
     "Sessions that have ended, by the two letters of their ending and its reason.",
     [](Page& page, const ServiceThing& it) {
         for (const auto& ending : it.stats.endings.list())
             page.add(with(with(it.labels, "ending", ending.letters), "reason", ending.reason),
                      ending.value);
     }},
    {"proxify_relayed_bytes_total", Type::counter, "Bytes that were sent on, by direction.",
     [](Page& page, const ServiceThing& it) {
         if (it.service) add_bytes(page, it.labels, it.stats.bytes);
     }},
    {"proxify_connect_duration_seconds", Type::histogram,
     "How long it took to connect to a target, where that succeeded.",
     [](Page& page, const ServiceThing& it) {
         if (it.service) page.add_histogram(it.labels, it.stats.connects);
     }},
    {"proxify_session_duration_seconds", Type::histogram,
     "How long sessions that have ended took, from accept to close.",
     [](Page& page, const ServiceThing& it) {
         if (it.service) page.add_histogram(it.labels, it.stats.durations);
     }},
    {"proxify_queue_duration_seconds", Type::histogram,
     "How long clients waited in line for a seat, whatever came of it.",
     [](Page& page, const ServiceThing& it) {
         if (it.service && has_line(*it.service)) page.add_histogram(it.labels, it.stats.waits);
     }},
    {"proxify_queued_clients", Type::gauge, "Clients who wait in line for a seat.",
     [](Page& page, const ServiceThing& it) {
         if (it.service && has_line(*it.service))
             page.add(it.labels, it.service->pool.admission().waiting());
     }},
    {"proxify_seats_taken", Type::gauge, "Sessions that are joined to a target, or about to be.",
     [](Page& page, const ServiceThing& it) {
         if (it.service) page.add(it.labels, it.service->pool.admission().sessions());
     }},
    {"proxify_seats_limit", Type::gauge, "How many there may be at once, where that is limited.",
     [](Page& page, const ServiceThing& it) {
         if (it.service && it.service->spec.max_connections > 0)
             page.add(it.labels, static_cast<uint64_t>(it.service->spec.max_connections));
     }},
    {"proxify_targets", Type::gauge, "Targets that may get sessions at all.",
     [](Page& page, const ServiceThing& it) {
         if (it.service) page.add(it.labels, it.service->pool.count().all);
     }},
    {"proxify_available_targets", Type::gauge, "Of these, how many are up and not ejected.",
     [](Page& page, const ServiceThing& it) {
         if (it.service) page.add(it.labels, it.service->pool.count().available);
     }},
    {"proxify_panic", Type::gauge,
     "1 while so few targets are available that all are used, else 0.",
     [](Page& page, const ServiceThing& it) {
         if (it.service) page.add(it.labels, it.service->pool.admission().is_panic());
     }},
};

constexpr Metric<CacheThing> of_caches[] = {
    {"proxify_cache_hits_total", Type::counter, "Sessions that were answered from memory at once.",
     [](Page& page, const CacheThing& it) { page.add(it.labels, it.stats().hits.value()); }},
    {"proxify_cache_shared_total", Type::counter,
     "Sessions that waited for the answer which another one was getting, and were given it.",
     [](Page& page, const CacheThing& it) { page.add(it.labels, it.stats().shared.value()); }},
    {"proxify_cache_misses_total", Type::counter,
     "Sessions that went to a target for an answer which was to be kept.",
     [](Page& page, const CacheThing& it) { page.add(it.labels, it.stats().misses.value()); }},
    {"proxify_cache_passed_total", Type::counter,
     "Sessions that went to a target as if there were no cache.",
     [](Page& page, const CacheThing& it) { page.add(it.labels, it.stats().passed.value()); }},
    {"proxify_cache_not_kept_total", Type::counter, "Answers that were not kept, by reason.",
     [](Page& page, const CacheThing& it) {
         const auto& stats = it.stats();
         page.add(with(it.labels, "reason", "cut_off"), stats.cut_off.value());
         page.add(with(it.labels, "reason", "too_long"), stats.too_long.value());
         page.add(with(it.labels, "reason", "no_room"), stats.no_room.value());
         page.add(with(it.labels, "reason", "empty"), stats.empty.value());
         page.add(with(it.labels, "reason", "asked_more"), stats.asked_more.value());
         page.add(with(it.labels, "reason", "closed"), stats.closed.value());
     }},
    {"proxify_cache_evictions_total", Type::counter,
     "Answers that were thrown out because room was needed.",
     [](Page& page, const CacheThing& it) { page.add(it.labels, it.stats().evictions.value()); }},
    {"proxify_cache_hit_bytes_total", Type::counter,
     "Bytes that were sent to clients without a target.",
     [](Page& page, const CacheThing& it) { page.add(it.labels, it.stats().hit_bytes.value()); }},
    {"proxify_cache_bytes", Type::gauge,
     "Memory that answers take, with their requests and those that are still coming.",
     [](Page& page, const CacheThing& it) { page.add(it.labels, it.store.bytes()); }},
    {"proxify_cache_entries", Type::gauge, "Answers that are kept.",
     [](Page& page, const CacheThing& it) { page.add(it.labels, it.store.entries()); }},
};

constexpr Metric<TlsThing> of_tls[] = {
    {"proxify_tls_handshakes_total", Type::counter,
     "TLS handshakes with clients or targets, by what came of them.",
     [](Page& page, const TlsThing& it) {
         const auto add = [&](std::string_view result, const stats::Counter& count) {
             page.add(with(it.labels, "result", result), count.value());
         };
         add("full", it.stats.full);
         add("resumed", it.stats.resumed);
         add("timeout", it.stats.timed_out);
         add("certificate", it.stats.bad_certificate);
         add("protocol", it.stats.bad_protocol);
         add("gone", it.stats.gone);
     }},
    {"proxify_tls_connections_total", Type::counter, "Connections that speak TLS, by its version.",
     [](Page& page, const TlsThing& it) {
         page.add(with(it.labels, "version", "1.2"), it.stats.version_1_2.value());
         page.add(with(it.labels, "version", "1.3"), it.stats.version_1_3.value());
     }},
};

constexpr Metric<CertificateThing> of_certificates[] = {
    {"proxify_tls_certificate_expiry_timestamp_seconds", Type::gauge,
     "When a certificate that proxify shows stops being good, since the epoch.",
     [](Page& page, const CertificateThing& it) { add_time(page, it.labels, it.ends); }},
};

constexpr Metric<AllowedThing> of_allowed[] = {
    {"proxify_tls_clients_total", Type::counter,
     "Clients who came in with a certificate that is allowed by its name.",
     [](Page& page, const AllowedThing& it) { page.add(it.labels, it.clients.value()); }},
};

constexpr Metric<TargetThing> of_targets[] = {
    {"proxify_target_up", Type::gauge, "1 while checks find the target up, else 0.",
     [](Page& page, const TargetThing& it) {
         if (!it.has_left) page.add(it.labels, it.target.up);
     }},
    {"proxify_target_ejected", Type::gauge,
     "1 while the target is out because of what clients met there, else 0.",
     [](Page& page, const TargetThing& it) {
         if (!it.has_left) page.add(it.labels, it.target.ejected);
     }},
    {"proxify_target_available", Type::gauge, "1 while the target is up and not ejected, else 0.",
     [](Page& page, const TargetThing& it) {
         if (!it.has_left) page.add(it.labels, it.target.available);
     }},
    {"proxify_target_sessions_total", Type::counter, "Sessions that were joined to the target.",
     [](Page& page, const TargetThing& it) {
         page.add(it.labels, it.target.stats.connects.count.value());
     }},
    {"proxify_target_seats_taken", Type::gauge,
     "Sessions that are joined to the target, or about to be.",
     [](Page& page, const TargetThing& it) { page.add(it.labels, it.target.sessions); }},
    {"proxify_target_seats_limit", Type::gauge,
     "How many there may be at once, where that is limited.",
     [](Page& page, const TargetThing& it) {
         if (it.target.sessions_max > 0) page.add(it.labels, it.target.sessions_max);
     }},
    {"proxify_target_relayed_bytes_total", Type::counter, "Bytes that were sent on, by direction.",
     [](Page& page, const TargetThing& it) { add_bytes(page, it.labels, it.target.stats.bytes); }},
    {"proxify_target_connect_duration_seconds", Type::summary,
     "How long it took to connect to the target, where that succeeded.",
     [](Page& page, const TargetThing& it) {
         page.add_summary(it.labels, it.target.stats.connects);
     }},
    {"proxify_target_connect_failures_total", Type::counter,
     "Connects to the target that failed, by reason.",
     [](Page& page, const TargetThing& it) {
         const auto& stats = it.target.stats;
         page.add(with(it.labels, "reason", "refused"), stats.refused.value());
         page.add(with(it.labels, "reason", "timeout"), stats.timed_out.value());
         page.add(with(it.labels, "reason", "unreachable"), stats.unreachable.value());
     }},
    {"proxify_target_early_resets_total", Type::counter,
     "Sessions that the target reset before it had sent a byte.",
     [](Page& page, const TargetThing& it) {
         page.add(it.labels, it.target.stats.early_resets.value());
     }},
    {"proxify_target_checks_total", Type::counter, "Checks of the target, by result.",
     [](Page& page, const TargetThing& it) {
         const auto& stats = it.target.stats;
         page.add(with(it.labels, "result", "good"), stats.good_checks.value());
         page.add(with(it.labels, "result", "bad"), stats.bad_checks.value());
         page.add(with(it.labels, "result", "unknown"), stats.unknown_checks.value());
     }},
    {"proxify_target_ejections_total", Type::counter, "Times the target was ejected.",
     [](Page& page, const TargetThing& it) {
         page.add(it.labels, it.target.stats.ejections.value());
     }},
};

template <stats::Counter stats::Element::Way::* counter, bool of_count>
void add_element(Page& page, const ElementThing& it) {
    if (it.counts == of_count) page.add(it.labels, (it.stats.*counter).value());
}
using Way = stats::Element::Way;

constexpr Metric<ElementThing> of_elements[] = {
    {"proxify_element_chunks_total", Type::counter, "Chunks that came past a count element.",
     add_element<&Way::chunks, true>},
    {"proxify_element_bytes_total", Type::counter, "Bytes that came past a count element.",
     add_element<&Way::bytes, true>},
    {"proxify_element_dropped_total", Type::counter, "Chunks that the element has dropped.",
     add_element<&Way::dropped, false>},
    {"proxify_element_changed_total", Type::counter, "Chunks that it has changed.",
     add_element<&Way::changed, false>},
    {"proxify_element_closed_total", Type::counter, "Sessions that it has ended.",
     add_element<&Way::closed, false>},
    {"proxify_element_failed_total", Type::counter, "Chunks at which it has failed.",
     add_element<&Way::failed, false>},
};

constexpr Metric<PortThing> of_ports[] = {
    {"proxify_port_sessions_total", Type::counter, "Sessions that began, by dialled port.",
     [](Page& page, const PortThing& it) { page.add(it.labels, it.stats.sessions.value()); }},
    {"proxify_port_failed_sessions_total", Type::counter,
     "Of these, how many ended without having reached a target.",
     [](Page& page, const PortThing& it) { page.add(it.labels, it.stats.failed.value()); }},
    {"proxify_port_relayed_bytes_total", Type::counter, "Bytes that were sent on, by direction.",
     [](Page& page, const PortThing& it) { add_bytes(page, it.labels, it.stats.bytes); }},
    {"proxify_port_connect_duration_seconds", Type::summary,
     "How long it took to connect to a target, where that succeeded.",
     [](Page& page, const PortThing& it) { page.add_summary(it.labels, it.stats.connects); }},
};

constexpr Metric<AnswersThing> of_kernel[] = {
    {"proxify_kernel_lookups_total", Type::counter,
     "Lookups for ports of proxify, by what the steering program answered.", add_answers},
};

constexpr Metric<AnswersThing> of_kernel_by_service[] = {
    {"proxify_service_kernel_lookups_total", Type::counter,
     "The same for each service, as far as they are counted apart.", add_answers},
};

constexpr Metric<Steering> of_kernel_by_port[] = {
    {"proxify_port_kernel_steered_total", Type::counter,
     "Connections handed to the listener by the kernel, by dialled port.",
     [](Page& page, const Steering& it) {
         for (size_t port = 0; port < it.by_port.size(); ++port)
             if (it.by_port[port] > 0)
                 page.add(label("port", std::to_string(port)), it.by_port[port]);
     }},
};

constexpr Metric<Capture> of_captures[] = {
    {"proxify_capture_events_total", Type::counter,
     "Connects, or packets, by what a program of a capture did with them.",
     [](Page& page, const Capture& it) {
         for (const auto& [name, count] : it.answers)
             page.add(with(label("capture", it.name), "answer", name), count);
     }},
    {"proxify_capture_container_connections_total", Type::counter,
     "Connections to a container that were captured.",
     [](Page& page, const Capture& it) {
         for (const auto& [container, count] : it.by_container)
             page.add(with(label("capture", it.name), "container", container), count);
     }},
};

constexpr Metric<WorkerThing> of_workers[] = {
    {"proxify_worker_sessions", Type::gauge, "Sessions that the worker carries.",
     [](Page& page, const WorkerThing& it) { page.add(it.labels, it.worker.sessions); }},
    {"proxify_worker_sessions_limit", Type::gauge,
     "How many it may carry; beyond it clients wait in the kernel's queue.",
     [](Page& page, const WorkerThing& it) { page.add(it.labels, it.worker.sessions_max); }},
    {"proxify_worker_accept_queue_clients", Type::gauge,
     "Clients who wait in the kernel's queue to be accepted.",
     [](Page& page, const WorkerThing& it) { page.add(it.labels, it.worker.accept_queue); }},
    {"proxify_worker_accepted_total", Type::counter,
     "Connections that it accepted, by the door that they came in by.",
     [](Page& page, const WorkerThing& it) {
         for (const auto& [door, count] : it.worker.accepted)
             page.add(with(it.labels, "door", door), count);
     }},
    {"proxify_worker_accept_pauses_total", Type::counter,
     "Times the worker stopped accepting, for want of room or descriptors.",
     [](Page& page, const WorkerThing& it) { page.add(it.labels, it.worker.accept_pauses); }},
    {"proxify_worker_receive_buffers", Type::gauge, "Receive buffers, shared by all sessions.",
     [](Page& page, const WorkerThing& it) { page.add(it.labels, it.worker.buffers); }},
    {"proxify_worker_buffer_waits_total", Type::counter,
     "Times a session had to wait because all receive buffers were in use.",
     [](Page& page, const WorkerThing& it) { page.add(it.labels, it.worker.buffer_waits); }},
    {"proxify_worker_pipes", Type::gauge, "Kernel pipes for bulk that are open.",
     [](Page& page, const WorkerThing& it) { page.add(it.labels, it.worker.pipes); }},
    {"proxify_worker_pipes_lent", Type::gauge, "Of these, how many hold bytes of a session.",
     [](Page& page, const WorkerThing& it) { page.add(it.labels, it.worker.pipes_lent); }},
    {"proxify_worker_pipes_limit", Type::gauge, "How many pipes the worker may open.",
     [](Page& page, const WorkerThing& it) { page.add(it.labels, it.worker.pipes_max); }},
    {"proxify_worker_pipe_refusals_total", Type::counter,
     "Times bulk was copied because no pipe was to be had.",
     [](Page& page, const WorkerThing& it) { page.add(it.labels, it.worker.pipes_refused); }},
    {"proxify_worker_completion_overflows_total", Type::counter,
     "Turns that began with more events than the ring holds. The kernel kept the others aside.",
     [](Page& page, const WorkerThing& it) {
         page.add(it.labels, it.worker.completion_overflows);
     }},
};

template <class Thing, size_t size>
void write(Page& page, const Metric<Thing> (&metrics)[size],
           std::type_identity_t<std::span<const Thing>> things) {
    for (const auto& metric : metrics) {
        page.begin(metric.name, metric.type, metric.help);
        for (const auto& thing : things) metric.write(page, thing);
    }
}

}  // namespace

std::string render(const Input& input) {
    std::vector<ServiceThing> services;
    std::vector<TargetThing> targets;
    std::vector<std::shared_ptr<balance::Target>> held;  // those that have left
    std::vector<ElementThing> elements;
    std::vector<PortThing> ports;
    for (const auto& service : input.snapshot->services()) {
        if (!service) continue;
        const std::string labels = label("service", service->name);
        services.push_back({labels, *service->stats, service.get()});
        auto labels_of = [&](const balance::Target& target) {
            return with(labels, "target", target.text);
        };
        for (const auto& target : service->pool.targets())
            targets.push_back({labels_of(*target), *target});
        for (const auto& left : service->left) {
            auto target = left.lock();
            if (!target) continue;
            held.push_back(target);
            targets.push_back({labels_of(*target), *target, /*has_left=*/true});
        }
        if (service->filters)
            for (const auto& entry : service->filters->entries()) {
                const auto of = with(labels, "element", entry.spec.name);
                for (auto direction : {Direction::to_target, Direction::to_client})
                    if (entry.sees(direction) != filter::nothing)
                        elements.push_back({with(of, "direction",
                                                 config::name_of(std::optional(direction),
                                                                 config::direction_names)),
                                            entry.stats->of(direction),
                                            entry.spec.type == config::ElementType::count});
            }
        if (service->port_stats)
            service->port_stats->for_each([&](uint16_t port, const stats::Port& stats) {
                ports.push_back({with(labels, "port", std::to_string(port)), stats});
            });
    }
    services.push_back({label("service", no_service), *input.snapshot->unserved(), nullptr});

    std::vector<CacheThing> caches;
    for (const auto& service : input.snapshot->services())
        if (service && service->cache)
            caches.push_back({label("service", service->name), *service->cache});

    std::vector<TlsThing> tls;
    std::vector<CertificateThing> certificates;
    std::vector<AllowedThing> allowed;
    for (const auto& service : input.snapshot->services()) {
        if (!service) continue;
        const std::string labels = label("service", service->name);
        if (service->tls) {
            const auto& settings = service->spec.tls->settings;
            const auto side = with(labels, "side", "client");
            tls.push_back({side, service->stats->client_tls});
            for (size_t i = 0; i < settings.identities.size(); ++i)
                certificates.push_back({with(side, "file", settings.identities[i].certificate.name),
                                        service->tls->certificates()[i].not_after});
            for (size_t i = 0; i < settings.allowed_names.size(); ++i)
                allowed.push_back({with(labels, "name", settings.allowed_names[i]),
                                   *service->allowed_clients[i]});
        }
        if (service->target_tls) {
            const auto side = with(labels, "side", "target");
            tls.push_back({side, service->stats->target_tls});
            if (const auto* shown = service->target_tls->certificate())
                certificates.push_back(
                    {with(side, "file",
                          service->spec.target_tls->settings.identity->certificate.name),
                     shown->not_after});
        }
    }

    std::vector<WorkerThing> workers;
    for (const auto& worker : input.workers)
        workers.push_back({label("worker", std::to_string(worker.number)), worker});

    Page page;
    write(page, of_proxify, std::span(&input, 1));
    write(page, of_services, services);
    if (!caches.empty()) write(page, of_caches, caches);
    if (!tls.empty()) {
        write(page, of_tls, tls);
        write(page, of_certificates, certificates);
        write(page, of_allowed, allowed);
    }
    write(page, of_targets, targets);
    write(page, of_elements, elements);
    write(page, of_ports, ports);
    if (input.steering) {
        const AnswersThing all{"", input.steering->all};
        std::vector<AnswersThing> by_service;
        for (const auto& [name, answers] : input.steering->by_service)
            by_service.push_back({label("service", name), answers});
        write(page, of_kernel, std::span(&all, 1));
        write(page, of_kernel_by_service, by_service);
        write(page, of_kernel_by_port, std::span(&*input.steering, 1));
    }
    if (!input.captures.empty()) write(page, of_captures, input.captures);
    write(page, of_workers, workers);
    return page.take();
}

std::vector<Family> families() {
    std::vector<Family> all;
    auto add = [&](const auto& metrics) {
        for (const auto& metric : metrics) all.push_back({metric.name, metric.type, metric.help});
    };
    add(of_proxify);
    add(of_services);
    add(of_caches);
    add(of_tls);
    add(of_certificates);
    add(of_allowed);
    add(of_targets);
    add(of_elements);
    add(of_ports);
    add(of_kernel);
    add(of_kernel_by_service);
    add(of_kernel_by_port);
    add(of_captures);
    add(of_workers);
    return all;
}

}  // namespace proxify::metrics
