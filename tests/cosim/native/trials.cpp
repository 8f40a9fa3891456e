// Runs a program many times on one core, each time with something that goes wrong, and once more
// after it without. Never resets in between, but where the reset is what is tried.
//
//   trials MEMORY EXPECTED BASE LENGTH STORE_BASE STORE_LIMIT WATCHDOG STALLS < TRIALS
//
// A trial is a line `kind place value`: `r` and `w` answer read beat or write burst number `place`
// with response `value`; `a` aborts `place` cycles after the start; `x` holds the reset for `value`
// cycles from `place` cycles after the start on; `n` lets the run alone. For each a line comes back,
// see Outcome.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "Vtop.h"
#include "axi_memory.hpp"
#include "parameters.hpp"
#include "verilated.h"

namespace {

using Bytes = std::vector<uint8_t>;
constexpr uint64_t LIMIT = 200000;

Bytes contents(const char* path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(std::string("cannot read ") + path);
    return Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

struct Trial {
    char kind = 'n';
    uint64_t place = 0;
    uint32_t value = 0;
};

struct Outcome {
    bool interrupt = false;   // within LIMIT cycles
    uint64_t cycles = 0;      // from the start to the interrupt
    uint32_t status = 0, code = 0, unit = 0, pc = 0, halt = 0;
    bool idle = false;        // no burst is open
    bool outside = false;     // memory beyond the store window is what it was
    uint64_t address = 0;     // of the beat or burst that failed
    bool failed = false;      // it came at all
};

class Bench {
  public:
    Bench(Bytes pristine, Bytes expected, std::vector<uint32_t> settings, uint64_t stalls)
        : pristine_(std::move(pristine)), expected_(std::move(expected)), settings_(settings),
          stalls_(stalls), data_(pristine_) {
        top_ = std::make_unique<Vtop>(&context_);
        connect_memory();
        reset(4);
    }

    Outcome run(const Trial& trial) {
        data_ = pristine_;
        trial_ = trial;
        read_beats_ = write_bursts_ = 0;
        Outcome outcome;
        outcome_ = &outcome;
        configure();
        write(registers::CONTROL, registers::START);
        const uint64_t first = cycle_;
        while (!top_->irq && cycle_ - first < LIMIT) {
            if (trial.kind == 'a' && cycle_ - first == trial.place)
                write(registers::CONTROL, registers::ABORT);
            else if (trial.kind == 'x' && cycle_ - first == trial.place) {
                reset(trial.value);
                break;
            } else
                tick();
        }
        outcome.cycles = cycle_ - first;
        outcome.interrupt = top_->irq;
        outcome_ = nullptr;
        trial_ = Trial{};
        outcome.idle = memory_->idle();
        outcome.status = read(registers::STATUS);
        outcome.code = read(registers::ERROR_CODE);
        outcome.unit = read(registers::ERROR_UNIT);
        outcome.pc = read(registers::ERROR_PC);
        outcome.halt = read(registers::HALT_CODE);
        write(registers::CONTROL, registers::CLEAR_IRQ);
        const uint64_t low = settings_[2], high = settings_[3];
        outcome.outside = !std::memcmp(data_.data(), pristine_.data(), low) &&
                          !std::memcmp(data_.data() + high, pristine_.data() + high,
                                       pristine_.size() - high);
        return outcome;
    }

    bool as_expected() const { return data_ == expected_; }

  private:
    void connect_memory() {
        memory_ = std::make_unique<AxiMemory<Vtop>>(*top_, data_.data(), data_.size(), 0,
                                                    Stalls(7, stalls_));
    }

    void reset(uint32_t cycles) {
        top_->rst = 1;
        for (uint32_t i = 0; i < cycles; ++i) {
            tick();
            connect_memory();  // what hangs behind the port is reset with the core
        }
        top_->rst = 0;
    }

    void configure() {
        const uint32_t places[] = {registers::PROGRAM_BASE, registers::PROGRAM_LENGTH,
                                   registers::STORE_BASE, registers::STORE_LIMIT,
                                   registers::WATCHDOG};
        for (size_t i = 0; i < std::size(places); ++i) write(places[i], settings_[i]);
        write(registers::DRAM_BASE, 0);
        write(registers::IRQ_ENABLE, 1);
    }

    void tick() {
        memory_->drive(cycle_);
        const bool read = trial_.kind == 'r' && top_->m_axi_rvalid && read_beats_ == trial_.place;
        const bool write =
            trial_.kind == 'w' && top_->m_axi_bvalid && write_bursts_ == trial_.place;
        if (read) {
            top_->m_axi_rresp = trial_.value;
            std::memset(&top_->m_axi_rdata, 0xA5, parameters::PORT_BYTES);
        }
        if (write) top_->m_axi_bresp = trial_.value;
        top_->clk = 0;
        top_->eval();
        if (top_->m_axi_arvalid && top_->m_axi_arready)
            for (uint32_t i = 0; i <= top_->m_axi_arlen; ++i)
                reads_.push_back(top_->m_axi_araddr + i * parameters::PORT_BYTES);
        if (top_->m_axi_awvalid && top_->m_axi_awready) writes_.push_back(top_->m_axi_awaddr);
        if (top_->m_axi_rvalid && top_->m_axi_rready) {
            note(read, reads_);
            ++read_beats_;
        }
        if (top_->m_axi_bvalid && top_->m_axi_bready) {
            note(write, writes_);
            ++write_bursts_;
        }
        memory_->sample(cycle_);
        lite_aw_ = top_->s_axi_awvalid && top_->s_axi_awready;
        lite_w_ = top_->s_axi_wvalid && top_->s_axi_wready;
        lite_b_ = top_->s_axi_bvalid && top_->s_axi_bready;
        lite_ar_ = top_->s_axi_arvalid && top_->s_axi_arready;
        lite_r_ = top_->s_axi_rvalid && top_->s_axi_rready;
        lite_data_ = top_->s_axi_rdata;
        top_->clk = 1;
        top_->eval();
        ++cycle_;
        if (top_->rst) {
            reads_.clear();
            writes_.clear();
        }
    }

    void note(bool failed, std::deque<uint64_t>& addresses) {
        if (addresses.empty()) throw std::runtime_error("an answer that nobody asked for");
        if (failed && outcome_) {
            outcome_->failed = true;
            outcome_->address = addresses.front();
        }
        addresses.pop_front();
    }

    void write(uint32_t address, uint32_t value) {
        top_->s_axi_awaddr = address;
        top_->s_axi_awvalid = 1;
        top_->s_axi_wdata = value;
        top_->s_axi_wstrb = 0xF;
        top_->s_axi_wvalid = 1;
        top_->s_axi_bready = 1;
        do {
            tick();
            if (lite_aw_) top_->s_axi_awvalid = 0;
            if (lite_w_) top_->s_axi_wvalid = 0;
        } while (!lite_b_);
        top_->s_axi_bready = 0;
    }

    uint32_t read(uint32_t address) {
        top_->s_axi_araddr = address;
        top_->s_axi_arvalid = 1;
        top_->s_axi_rready = 1;
        do {
            tick();
            if (lite_ar_) top_->s_axi_arvalid = 0;
        } while (!lite_r_);
        top_->s_axi_rready = 0;
        return lite_data_;
    }

    Bytes pristine_, expected_;
    std::vector<uint32_t> settings_;
    uint64_t stalls_;
    Bytes data_;
    VerilatedContext context_;
    std::unique_ptr<Vtop> top_;
    std::unique_ptr<AxiMemory<Vtop>> memory_;
    Trial trial_;
    Outcome* outcome_ = nullptr;
    std::deque<uint64_t> reads_, writes_;  // addresses of beats, and of bursts, to come
    uint64_t cycle_ = 0, read_beats_ = 0, write_bursts_ = 0;
    bool lite_aw_ = false, lite_w_ = false, lite_b_ = false, lite_ar_ = false, lite_r_ = false;
    uint32_t lite_data_ = 0;
};

void run(char** words) {
    std::vector<uint32_t> settings;
    for (int i = 3; i < 8; ++i) settings.push_back(uint32_t(std::stoul(words[i])));
    Bench bench(contents(words[1]), contents(words[2]), settings, std::stoul(words[8]));
    Trial trial;
    unsigned long place, value;
    while (std::scanf(" %c %lu %lu", &trial.kind, &place, &value) == 3) {
        trial.place = place;
        trial.value = uint32_t(value);
        const Outcome one = bench.run(trial);
        const Outcome two = bench.run(Trial{});
        std::printf("%d %lu %u %u %u %u %u %d %d %d %lu %d %lu %u %d\n", one.interrupt,
                    (unsigned long)one.cycles, one.status, one.code, one.unit, one.pc, one.halt,
                    one.idle, one.outside, one.failed, (unsigned long)one.address, two.interrupt,
                    (unsigned long)two.cycles, two.code, bench.as_expected() && two.idle);
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc != 9) throw std::runtime_error("eight words are wanted");
        run(argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
