// SPDX-License-Identifier: Apache-2.0
#include "config/certificates.h"

#include <set>

#include "base/count_text.h"
#include "base/format.h"

namespace proxify::config {

std::vector<NamedCertificate> certificates_of(const Config& config) {
    std::vector<NamedCertificate> all;
    for (const auto& service : config.services) {
        auto add = [&](std::string_view key, const tls::Pem& file) {
            if (auto facts = tls::facts_of(file))
                all.push_back(
                    {format("{} of service {}", key, service.name), file.name, *std::move(facts)});
        };
        if (service.tls) {
            for (const auto& one : service.tls->settings.identities) add("tls", one.certificate);
            if (const auto& ca = service.tls->settings.client_ca) add("tls.client_ca", *ca);
        }
        if (service.target_tls) {
            const auto& settings = service.target_tls->settings;
            if (settings.identity) add("target_tls", settings.identity->certificate);
            if (settings.ca) add("target_tls.ca", *settings.ca);
        }
    }
    if (config.tunnel)
        for (const auto* file : {&config.tunnel->identity.certificate, &config.tunnel->ca})
            if (auto facts = tls::facts_of(*file))
                all.push_back({"[tunnel]", file->name, *std::move(facts)});
    return all;
}

std::vector<std::string> keys_of(const Config& config) {
    std::set<std::string> files;
    for (const auto& service : config.services) {
        if (service.tls)
            for (const auto& one : service.tls->settings.identities) files.insert(one.key.name);
        if (service.target_tls && service.target_tls->settings.identity)
            files.insert(service.target_tls->settings.identity->key.name);
    }
    if (config.tunnel) files.insert(config.tunnel->identity.key.name);
    return {files.begin(), files.end()};
}

static std::string day_of(std::chrono::sys_seconds time) {
    const std::chrono::year_month_day day(std::chrono::floor<std::chrono::days>(time));
    return format("{:04}-{:02}-{:02}", static_cast<int>(day.year()),
                  static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()));
}

std::optional<DateTrouble> date_trouble(const NamedCertificate& certificate,
                                        std::chrono::sys_seconds now) {
    const auto& facts = certificate.facts;
    const auto text = [&](const std::string& what) {
        return format("the certificate in {} ({}) {}", certificate.file, certificate.whose, what);
    };
    if (now >= facts.not_after)
        return DateTrouble{true, text("has expired on " + day_of(facts.not_after))};
    if (now < facts.not_before)
        return DateTrouble{true, text("is not good before " + day_of(facts.not_before))};
    if (facts.not_after - now >= expiry_warning) return std::nullopt;
    const auto left = std::chrono::ceil<std::chrono::days>(facts.not_after - now);
    return DateTrouble{
        false, text(format("expires {}, on {}",
                           left.count() == 1
                               ? "within a day"
                               : "in " + count_text(static_cast<size_t>(left.count()), "day"),
                           day_of(facts.not_after)))};
}

}  // namespace proxify::config
