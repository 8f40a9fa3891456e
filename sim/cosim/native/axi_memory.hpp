// The memory behind the AXI4 port, to the rules of hw/arch/timing.py MemoryTiming.
//
// Bursts are served strictly in the order in which their addresses were accepted (a read before a
// write of the same cycle), one data beat per cycle in total. ARREADY and AWREADY are always 1,
// WREADY is 1 only in the slot of the write burst that is being served. With stalls, each channel
// also pauses at random; the results must not change, the times do.
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>

#include "parameters.hpp"

class ProtocolError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Random numbers for stalls: xorshift64*, so that a seed gives the same run everywhere.
class Stalls {
  public:
    Stalls(uint64_t seed, uint64_t percent) : state_(seed * 2 + 1), percent_(percent) {}
    bool enabled() const { return percent_ != 0; }
    bool next() {
        if (!percent_) return false;
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return (state_ * 0x2545F4914F6CDD1DULL >> 33) % 100 < percent_;
    }

  private:
    uint64_t state_;
    uint64_t percent_;
};

template <typename Top>
class AxiMemory {
  public:
    // The memory answers from address `base` on, with its first byte.
    AxiMemory(Top& top, uint8_t* data, uint64_t size, uint64_t base, Stalls stalls)
        : top_(top), data_(data), size_(size), base_(base), stalls_(stalls) {
        top_.m_axi_arready = 1;
        top_.m_axi_awready = 1;
        top_.m_axi_wready = 0;
        top_.m_axi_rvalid = 0;
        top_.m_axi_bvalid = 0;
    }

    // Sets the core's inputs of cycle `now`.
    void drive(uint64_t now) {
        if (stalls_.enabled()) {
            top_.m_axi_arready = !stalls_.next();
            top_.m_axi_awready = !stalls_.next();
        }
        const bool slot = !bursts_.empty() && now >= start_of_head();
        const bool write = slot && bursts_.front().write;
        top_.m_axi_wready = write && !stalls_.next();
        const bool read = slot && !write;
        if (!r_held_) r_held_ = read && !stalls_.next();
        top_.m_axi_rvalid = r_held_;
        if (r_held_) drive_read(bursts_.front());
        if (!b_held_) b_held_ = !responses_.empty() && now >= responses_.front().due &&
                                !stalls_.next();
        top_.m_axi_bvalid = b_held_;
        if (b_held_) top_.m_axi_bresp = responses_.front().code;
    }

    // Looks at the core's settled outputs of cycle `now` and performs the handshakes.
    void sample(uint64_t now) {
        if (top_.m_axi_rvalid && top_.m_axi_rready) {
            r_held_ = false;
            finish_beat(now);
        }
        if (top_.m_axi_wready && top_.m_axi_wvalid) {
            write_beat(bursts_.front());
            finish_beat(now);
            ++written_;
            if (on_write_) on_write_(written_);
        }
        if (top_.m_axi_bvalid && top_.m_axi_bready) {
            b_held_ = false;
            responses_.pop_front();
        }
        if (top_.m_axi_arvalid && top_.m_axi_arready)
            accept(now, false, top_.m_axi_araddr, top_.m_axi_arlen, top_.m_axi_arsize,
                   top_.m_axi_arburst);
        if (top_.m_axi_awvalid && top_.m_axi_awready)
            accept(now, true, top_.m_axi_awaddr, top_.m_axi_awlen, top_.m_axi_awsize,
                   top_.m_axi_awburst);
    }

    // Called with the number of beats that have been written, whenever one has. STOREs overlap: the
    // bytes of one can lie in the memory before an earlier one has its answer and is done.
    void on_write(std::function<void(uint64_t)> call) { on_write_ = std::move(call); }

    bool idle() const { return bursts_.empty() && responses_.empty(); }
    uint64_t read_bursts() const { return read_bursts_; }
    uint64_t write_bursts() const { return write_bursts_; }

  private:
    static constexpr uint32_t OKAY = 0, DECODE_ERROR = 3;

    struct Burst {
        bool write;
        uint64_t address;
        uint32_t beats;
        uint64_t accepted;
        uint32_t done = 0;
        uint32_t code = OKAY;
    };

    struct Response {
        uint64_t due;
        uint32_t code;
    };

    uint64_t start_of_head() const {
        const Burst& head = bursts_.front();
        if (head.done) return 0;
        const uint64_t latency = head.write ? parameters::WRITE_LATENCY : parameters::READ_LATENCY;
        uint64_t free = free_;
        if (any_ && head.write != last_write_) free += parameters::TURNAROUND;
        return free > head.accepted + latency ? free : head.accepted + latency;
    }

    void accept(uint64_t now, bool write, uint64_t address, uint32_t length, uint32_t size,
                uint32_t kind) {
        const uint32_t beats = length + 1;
        const uint64_t bytes = uint64_t(beats) * parameters::PORT_BYTES;
        if ((1u << size) != parameters::PORT_BYTES || address % parameters::PORT_BYTES)
            throw ProtocolError("a burst of narrow or unaligned beats at " +
                                std::to_string(address));
        if (kind != 1) throw ProtocolError("a burst that is not INCR");
        if (beats > parameters::MAX_BURST || (address ^ (address + bytes - 1)) >> 12)
            throw ProtocolError("a burst of " + std::to_string(beats) + " beats at " +
                                std::to_string(address) + " is too long or crosses 4 KiB");
        // Below the base lies what no memory reaches.
        const uint64_t place = address < base_ ? ~uint64_t(0) >> 1 : address - base_;
        bursts_.push_back({write, place, beats, now});
        ++(write ? write_bursts_ : read_bursts_);
    }

    uint64_t beat_address(const Burst& burst) const {
        return burst.address + uint64_t(burst.done) * parameters::PORT_BYTES;
    }

    void drive_read(const Burst& burst) {
        const uint64_t address = beat_address(burst);
        const bool inside = address + parameters::PORT_BYTES <= size_;
        if (inside) std::memcpy(&top_.m_axi_rdata, data_ + address, parameters::PORT_BYTES);
        top_.m_axi_rresp = inside ? OKAY : DECODE_ERROR;
        top_.m_axi_rlast = burst.done + 1 == burst.beats;
    }

    void write_beat(Burst& burst) {
        const bool last = burst.done + 1 == burst.beats;
        if (bool(top_.m_axi_wlast) != last) throw ProtocolError("WLAST is not on the last beat");
        const uint64_t address = beat_address(burst);
        if (address + parameters::PORT_BYTES > size_) {
            burst.code = DECODE_ERROR;
            return;
        }
        uint8_t row[parameters::PORT_BYTES];
        std::memcpy(row, &top_.m_axi_wdata, sizeof row);
        const uint64_t strobes = top_.m_axi_wstrb;
        for (uint32_t i = 0; i < parameters::PORT_BYTES; ++i)
            if (strobes >> i & 1) data_[address + i] = row[i];
    }

    void finish_beat(uint64_t now) {
        Burst& head = bursts_.front();
        if (++head.done < head.beats) return;
        if (head.write) responses_.push_back({now + parameters::WRITE_RESPONSE, head.code});
        last_write_ = head.write;
        any_ = true;
        free_ = now + 1;
        bursts_.pop_front();
    }

    Top& top_;
    uint8_t* data_;
    uint64_t size_;
    uint64_t base_;
    Stalls stalls_;
    std::deque<Burst> bursts_;
    std::deque<Response> responses_;
    bool r_held_ = false;
    bool b_held_ = false;
    bool any_ = false;
    bool last_write_ = false;
    uint64_t free_ = 0;
    uint64_t read_bursts_ = 0;
    uint64_t write_bursts_ = 0;
    uint64_t written_ = 0;
    std::function<void(uint64_t)> on_write_;
};
