// SPDX-License-Identifier: Apache-2.0
// Ring over a make-believe network. Linked instead of uring/ring.cc.
#include "io/ring.h"

#include "io/sim/world.h"
#include "io/spares.h"

namespace proxify::io {

struct Ring::Impl {
    sim::World& world;
    unsigned buffers;
    Spares spares = {};
};

Ring::Ring(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ring::Ring(Ring&&) noexcept = default;
Ring& Ring::operator=(Ring&&) noexcept = default;
Ring::~Ring() = default;

Result<Ring> Ring::open(const Options& options) {
    auto& world = sim::World::current();
    world.open_ring(options);
    return Ring(std::unique_ptr<Impl>(new Impl{world, options.buffers}));
}

void Ring::wait(Time until) {
    impl_->world.wait(until);
}
bool Ring::next(Completion*& completion, Event& event) {
    return impl_->world.next(completion, event);
}
void Ring::wake() {
    impl_->world.wake();
}
Time Ring::now() const {
    return impl_->world.now();
}
uint64_t Ring::times_overflowed() const {
    return 0;  // its queue for events has no end
}
uint64_t Ring::random() {
    return impl_->world.dice().next();
}

void Ring::accept(Handle listener, Completion& completion) {
    impl_->world.accept(listener, completion);
}
void Ring::receive(Handle socket, bool once, Completion& completion) {
    impl_->world.receive(socket, once, completion);
}
void Ring::connect(Handle socket, const Address& to, Completion& completion) {
    impl_->world.connect(socket, to, completion);
}
void Ring::wait_writable(Handle socket, Completion& completion) {
    impl_->world.wait_writable(socket, completion);
}
void Ring::wait_readable(Handle socket, Completion& completion) {
    impl_->world.wait_readable(socket, completion);
}
void Ring::cancel(Completion& completion) {
    impl_->world.cancel(completion);
}

unsigned Ring::buffer_count() const {
    return impl_->buffers;
}
std::byte* Ring::buffer(uint16_t id) {
    return id >= impl_->buffers ? impl_->spares.at(id - impl_->buffers) : impl_->world.buffer(id);
}
void Ring::provide(uint16_t id) {
    if (id >= impl_->buffers) return impl_->spares.give(id - impl_->buffers);
    impl_->world.provide(id);
}
uint16_t Ring::take_spare() {
    return static_cast<uint16_t>(impl_->buffers + impl_->spares.take());
}

int Ring::open_stream(bool v4) {
    return impl_->world.open_stream(v4);
}
Result<Handle> Ring::listen(const Address& at, const ListenOptions& options) {
    return impl_->world.listen(at, options);
}
int Ring::accept_now(Handle listener) {
    return impl_->world.accept_now(listener);
}
unsigned Ring::accept_queue(Handle listener) const {
    return impl_->world.accept_queue(listener);
}
int Ring::bind(Handle socket, const Address& at) {
    return impl_->world.bind(socket, at);
}
int Ring::bind_transparent(Handle socket, const Address& at, bool) {
    return impl_->world.bind(socket, at);
}
int Ring::set_mark(Handle, uint32_t) {
    return 0;
}
uint64_t Ring::cookie(Handle socket) {
    return static_cast<uint64_t>(socket);
}
std::optional<Address> Ring::redirected_from(Handle) {
    return std::nullopt;
}
int Ring::send_now(Handle socket, std::span<const std::byte> bytes) {
    return impl_->world.send_now(socket, bytes);
}
int Ring::shutdown_write(Handle socket) {
    return impl_->world.shutdown_write(socket);
}
int Ring::open_pipe(size_t size, PipeEnds& ends) {
    return impl_->world.open_pipe(size, ends);
}
void Ring::close_pipe(PipeEnds ends) {
    impl_->world.close_pipe(ends);
}
int Ring::splice_in(Handle socket, PipeEnds pipe, size_t count) {
    return impl_->world.splice_in(socket, pipe, count);
}
int Ring::splice_out(PipeEnds pipe, Handle socket, size_t count) {
    return impl_->world.splice_out(pipe, socket, count);
}
void Ring::tune_for_bulk(Handle, Handle) {}
int Ring::unacknowledged(Handle socket) {
    return impl_->world.unacknowledged(socket);
}
void Ring::reset_on_close(Handle socket) {
    impl_->world.reset_on_close(socket);
}
void Ring::close(Handle socket) {
    impl_->world.close(socket);
}
bool Ring::is_connected(Handle socket) {
    return impl_->world.is_connected(socket);
}
Address Ring::local_address(Handle socket) {
    return impl_->world.local_address(socket);
}
Address Ring::peer_address(Handle socket) {
    return impl_->world.peer_address(socket);
}

}  // namespace proxify::io
