// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <iterator>

#include "base/fd.h"
#include "support/catch.h"
#include "support/namespace.h"

namespace proxify::test {

/// Somebody else's sk_lookup program, which passes everything.
struct ForeignProgram {
    Fd program, link;

    explicit ForeignProgram(const Namespace& inside) {
        const bpf_insn pass[] = {
            {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = SK_PASS},
            {.code = BPF_JMP | BPF_EXIT}};
        LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_SK_LOOKUP);
        program = Fd::adopt(bpf_prog_load(BPF_PROG_TYPE_SK_LOOKUP, "somebody_elses", "GPL", pass,
                                          std::size(pass), &options));
        REQUIRE(program);
        link = Fd::adopt(bpf_link_create(program.get(), inside.fd(), BPF_SK_LOOKUP, nullptr));
        REQUIRE(link);
    }
};

}  // namespace proxify::test
