// SPDX-License-Identifier: Apache-2.0
// Codec: how the bytes of a stream look on the wire, where that is not as they are. io::Stream
// gives and takes plain bytes as ever, whichever codec it has; tls/ has the one there is.
#pragma once

#include <cstddef>
#include <span>

namespace proxify {

/// Where encoded bytes go: bytes taken, -EAGAIN when none fit, or -errno.
class Wire {
  public:
    virtual int send(std::span<const std::byte> bytes) = 0;

  protected:
    ~Wire() = default;
};

class Codec {
  public:
    virtual ~Codec() = default;

    enum class Opened {
        bytes,   ///< `size` is above 0
        hungry,  ///< all of `wire` is taken, and more is needed
        ended,   ///< the peer has said that nothing more comes
        failed,  ///< what came makes no sense; for good
    };
    /// Decodes into `room` (at least open_min bytes), and takes from the front of `wire` what it
    /// needed for that.
    virtual Opened open(std::span<const std::byte>& wire, std::span<std::byte> room,
                        size_t& size) = 0;
    static constexpr size_t open_min = 16 * 1024;

    /// Encodes and sends: plain bytes taken, -EAGAIN when none were, or -errno. After -EAGAIN the
    /// same bytes have to come again, be it from another place and with more behind them. Without
    /// bytes it sends what the codec itself has to say.
    virtual int send(std::span<const std::byte> plain, Wire& wire) = 0;

    /// Says to the peer that nothing more comes: 0, -EAGAIN when that has to be tried again, or
    /// -errno.
    virtual int finish(Wire& wire) = 0;
    /// Whether it has: then the peer may just go.
    virtual bool has_finished() const = 0;
};

}  // namespace proxify
