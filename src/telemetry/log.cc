// SPDX-License-Identifier: Apache-2.0
// The only file that includes spdlog: it owns the sink and the flushing, we own the words.
#include "telemetry/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/thread.h"

namespace proxify::telemetry {

struct Log::Writer {
    spdlog::logger logger{"proxify", std::make_shared<spdlog::sinks::stderr_sink_mt>()};
};

Log::Log(Format format, Level level)
    : level_(level), format_(format), writer_(std::make_unique<Writer>()) {
    writer_->logger.set_pattern("%v");  // render() writes the whole line
    writer_->logger.set_level(spdlog::level::trace);
    thread_ = start_thread("log", [this] { write_queued(); });
}

Log::~Log() {
    {
        std::lock_guard lock(lock_);
        closing_ = true;
    }
    filled_.notify_one();
    thread_.join();
}

void Log::set(Format format, Level level) {
    format_ = format;
    level_ = level;
}

void Log::session(SessionRecord&& record) {
    if (!shows(Level::info)) return;
    push({std::chrono::system_clock::now(), std::move(record)});
}

void Log::write(Level level, const char* event, std::string message,
                std::vector<std::pair<const char*, std::string>> fields) {
    if (!shows(level)) return;
    push({std::chrono::system_clock::now(),
          Happening{level, event, std::move(message), std::move(fields)}});
}

void Log::push(Entry entry) {
    bool wake;
    {
        std::lock_guard lock(lock_);
        if (queue_.size() == queue_size_max) {
            dropped_.fetch_add(1, std::memory_order_relaxed);
            return;
        }
        queue_.push_back(std::move(entry));
        wake = std::exchange(writer_sleeps_, false);
    }
    if (wake) filled_.notify_one();
}

void Log::write_queued() {
    std::vector<Entry> entries;
    uint64_t dropped_before = 0;
    for (;;) {
        entries.clear();
        {
            std::unique_lock lock(lock_);
            if (queue_.empty()) {
                if (closing_) return;
                writer_sleeps_ = true;
                filled_.wait(lock, [this] { return !queue_.empty() || closing_; });
                writer_sleeps_ = false;
            }
            queue_.swap(entries);
        }
        Format format = format_;
        for (const auto& [time, what] : entries) {
            auto line =
                std::visit([&](const auto& entry) { return render(format, time, entry); }, what);
            writer_->logger.info("{}", line);
        }
        if (auto dropped_now = dropped(); dropped_now != dropped_before) {
            Happening loss{Level::warn,
                           "log_dropped",
                           fmt::format("{} log lines were dropped: the log is written slower than "
                                       "it is filled",
                                       dropped_now - dropped_before),
                           {{"dropped", std::to_string(dropped_now - dropped_before)}}};
            writer_->logger.info("{}", render(format, std::chrono::system_clock::now(), loss));
            dropped_before = dropped_now;
        }
        writer_->logger.flush();
    }
}

}  // namespace proxify::telemetry
