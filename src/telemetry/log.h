// SPDX-License-Identifier: Apache-2.0
// Log: what happened, one line each, as text for eyes or JSON for machines. Nothing is formatted
// or written by the thread that has something to say: entries go into a bounded queue, a thread of
// the log's own renders them. When the queue is full entries are dropped, counted, and the
// count is logged; a slow disk or terminal never slows a connection. Payload is logged where an
// operator has put a hexdump into the chain of a service, and nowhere else.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <variant>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/ending.h"

namespace proxify::telemetry {

using WallTime = std::chrono::system_clock::time_point;

enum class Level { debug, info, warn, error, off };
enum class Format { text, json };

/// The whole story of one session: opened at accept, closed once, then handed to the log.
struct SessionRecord {
    uint64_t id = 0;
    std::shared_ptr<const std::string> service;  ///< null when no service was found
    Address client;
    Address original_dst;             ///< what the client dialled
    std::optional<Address> via = {};  ///< the proxy that said whom it carries; where one did
    std::string_view door = {};  ///< the capture that it came in by; empty for a port of a service
    std::optional<Address> target;
    std::string_view element = {};  ///< of the service's chain, that has ended it; lives as long as
                                    ///< the service
    uint64_t to_target = 0;         ///< bytes
    uint64_t to_client = 0;
    Duration duration{};
    Duration queued{};       ///< of that, in line for a seat
    int tried = 0;           ///< targets dialled
    const char* cache = "";  ///< where the service has one, what it did: a constant of the program
    const char* tls = "";    ///< the version spoken with the client: a constant of the program
    std::string identity = {};  ///< of the client's certificate: its first name
    std::string detail = {};    ///< more about the ending than its reason says
    Ending ending;
};

/// Something else that happened. `event` is one word for machines; fields are for both.
struct Happening {
    Level level = Level::info;
    const char* event = "";
    std::string message;
    std::vector<std::pair<const char*, std::string>> fields;  ///< only in JSON: the message says it
};

/// Whoever wants to be told what happened. Log writes it down; a simulation keeps it to compare.
class Journal {
  public:
    virtual ~Journal() = default;
    virtual void session(SessionRecord&& record) = 0;
    virtual void write(Level level, const char* event, std::string message,
                       std::vector<std::pair<const char*, std::string>> fields = {}) = 0;
    /// Whether it would keep what is of this level; asked before much is formatted.
    virtual bool shows(Level) const { return true; }

    void debug(const char* event, std::string message) {
        write(Level::debug, event, std::move(message));
    }
    void info(const char* event, std::string message) {
        write(Level::info, event, std::move(message));
    }
    void warn(const char* event, std::string message) {
        write(Level::warn, event, std::move(message));
    }
    void error(const char* event, std::string message) {
        write(Level::error, event, std::move(message));
    }
};

class Log final : public Journal {
  public:
    /// Lines go to standard error.
    Log(Format format, Level level);
    /// Writes what is queued, then ends.
    ~Log() override;

    void session(SessionRecord&& record) override;
    void write(Level level, const char* event, std::string message,
               std::vector<std::pair<const char*, std::string>> fields) override;

    void set(Format format, Level level);
    bool shows(Level level) const override {
        return level >= level_.load(std::memory_order_relaxed);
    }
    uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

    static constexpr size_t queue_size_max = 16384;

  private:
    struct Entry {
        WallTime time;
        std::variant<SessionRecord, Happening> what;
    };
    struct Writer;  // spdlog lives in log.cc

    void push(Entry entry);
    void write_queued();

    std::atomic<Level> level_;
    std::atomic<Format> format_;
    std::atomic<uint64_t> dropped_ = 0;
    std::unique_ptr<Writer> writer_;

    std::mutex lock_;
    std::condition_variable filled_;
    std::vector<Entry> queue_;
    bool writer_sleeps_ = false;
    bool closing_ = false;
    std::thread thread_;
};

/// The lines themselves, without a final newline; pure, for tests.
std::string render(Format format, WallTime time, const SessionRecord& record);
std::string render(Format format, WallTime time, const Happening& happening);

}  // namespace proxify::telemetry
