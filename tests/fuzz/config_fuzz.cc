// SPDX-License-Identifier: Apache-2.0
// libFuzzer: no text crashes config::parse(), and what it accepts can be described and is within
// the bounds that the rest of the program relies on. A text may name scripts; parse() reads regular
// files of at most 8 MiB only, so no name can make the fuzzer wait.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/expect.h"
#include "config/config.h"

using namespace proxify;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto config = config::parse({reinterpret_cast<const char*>(data), size}, "fuzz.toml");
    if (!config) {
        expect(!config.error().text().empty(), "a refusal says why");
        return 0;
    }
    expect(!config->services.empty(), "a config has a service");
    expect(!config->default_service || *config->default_service < config->services.size(),
           "the default service exists");
    for (const auto& service : config->services) {
        expect(!service.name.empty() && !service.targets.empty() && service.tries > 0,
               "a service is whole");
        expect(service.chunk_size >= 1 && service.chunk_size <= 65536, "a chunk has a size");
        for (size_t i = 0; i < service.filters.size(); ++i)
            for (size_t j = 0; j < i; ++j)
                expect(!service.filters[i].name.empty() &&
                           service.filters[i].name != service.filters[j].name,
                       "each element has a name of its own");
        for (auto range : service.ports) {
            expect(range.first >= 1 && range.first <= range.last, "a range rises");
            for (const auto& target : service.targets)
                expect(target.port.for_dialled(range.last) >= 1 &&
                           (target.port.kind != config::TargetPort::Kind::offset ||
                            target.port.for_dialled(range.last) > range.last),
                       "a target's port does not wrap round");
        }
    }
    config::describe(*config);
    return 0;
}
