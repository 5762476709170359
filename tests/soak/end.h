// SPDX-License-Identifier: Apache-2.0
// End: one end of a connection, the client's or the target's. It says its own speech in the manner
// of its plan, compares what it hears with the other's speech byte by byte, and keeps neither.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "soak/plan.h"
#include "support/pattern.h"
#include "support/stream.h"

namespace proxify::test::soak {

/// What one side says: an opening, and then so much of a pattern that the other can compute.
struct Speech {
    std::string opening;
    Pattern pattern{0};
    uint64_t length = 0;  ///< with the opening

    void fill(uint64_t offset, std::span<char> out) const;
    std::optional<uint64_t> first_difference(uint64_t offset, std::string_view bytes) const;
};

class End {
  public:
    /// A client, or a target that was told by a client who it is.
    static constexpr size_t introduction = sizeof(uint64_t);

    /// A target that has just been accepted: it may greet, and waits for a number.
    End(Stream stream, std::string greeting, Moment at);
    /// From now on it has a part to play. A target's speech begins with its greeting, and a
    /// client's with its number, which a target has heard already.
    void assign(Speech out, Speech in, const Manner& manner, Random random);

    /// The number of its connection, once it is known to a target.
    std::optional<uint64_t> number() const;
    short events(Moment at) const;
    void work(short ready, Moment at);
    /// Leaves early if its plan says so.
    void cut_if_due(Moment at);
    void cut(Cut::How how);

    int fd() const { return stream_.fd(); }
    const Stream& stream() const { return stream_; }
    bool is_closed() const { return closed_; }
    uint64_t sent() const { return sent_; }
    uint64_t received() const { return received_; }
    uint64_t to_send() const { return out_.length; }
    bool has_finished() const { return finished_; }  ///< has sent all it will, and its end
    bool has_cut() const { return cut_; }            ///< left before it was done
    bool saw_end() const { return saw_end_; }
    bool saw_reset() const { return saw_reset_; }
    const std::string& problem() const { return problem_; }
    std::string text() const;

  private:
    size_t chunk_size() { return random_.any_size(manner_.chunk_max - 1) + 1; }
    Moment after_a_pause(Moment at);
    bool may_write() const;
    void write(Moment at);
    void read(Moment at);
    void close();

    Stream stream_;
    Moment born_;
    Random random_{0, 0};
    Speech out_, in_;
    Manner manner_;
    std::string heard_number_;  ///< as far as it is here
    bool assigned_ = false;
    uint64_t sent_ = 0, received_ = 0;
    bool write_ended_ = false, read_ended_ = false, finished_ = false, cut_ = false,
         saw_end_ = false, saw_reset_ = false, has_stalled_ = false, closed_ = false;
    Moment read_pause_{}, write_pause_{};
    std::string problem_;
};

}  // namespace proxify::test::soak
