// Clocks a simulated SoC; bytes of standard input go to its serial line, and what it sends is told.
//
// Standard output is records of two bytes: 'B' and a byte from the line, 'T' and 0 for every
// HEARTBEAT clock cycles gone by, so that the host measures time in cycles. SIGUSR1 resets the SoC.
// With a file named, it gets a record of 16 bytes for each cycle in which an instruction enters or
// leaves a unit of the core: the cycle, and both strobes, a bit per unit.
// Ends with standard input; 3 if the SDRAM's rules were broken.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr uint64_t POLL = 64;
constexpr uint64_t HEARTBEAT = 2048;
constexpr uint64_t RESET = 32;

volatile sig_atomic_t reset_wanted = 0;

void tell(char kind, uint8_t value) {
    const char record[2] = {kind, char(value)};
    if (write(STDOUT_FILENO, record, 2) != 2) std::exit(0);
}

// Host's end of the serial line.
class Line {
  public:
    explicit Line(unsigned divisor) : divisor_(divisor) {}

    bool sends() const { return position_ < waiting_.size() || bits_left_; }

    // False at the end of the input.
    bool poll() {
        uint8_t block[4096];
        const ssize_t count = read(STDIN_FILENO, block, sizeof block);
        if (count == 0) return false;
        if (count > 0) {
            waiting_.assign(block, block + count);
            position_ = 0;
        }
        return true;
    }

    uint8_t drive() {
        if (!bits_left_) {
            if (position_ >= waiting_.size()) return 1;
            shift_ = uint32_t(waiting_[position_++]) << 1 | 1u << 9;
            bits_left_ = 10;
            timer_ = divisor_;
        }
        const uint8_t bit = shift_ & 1;
        if (!--timer_) {
            shift_ >>= 1;
            --bits_left_;
            timer_ = divisor_;
        }
        return bit;
    }

    void sample(uint8_t line) {
        if (!receiving_) {
            if (!line) {
                receiving_ = 10;
                wait_ = divisor_ / 2;
            }
            return;
        }
        if (wait_--) return;
        wait_ = divisor_ - 1;
        received_ = uint16_t(received_ >> 1 | line << 9);
        if (!--receiving_) tell('B', uint8_t(received_ >> 1));
    }

  private:
    unsigned divisor_;
    std::vector<uint8_t> waiting_;
    size_t position_ = 0;
    uint32_t shift_ = 0;
    unsigned bits_left_ = 0, timer_ = 0;
    unsigned receiving_ = 0, wait_ = 0;
    uint16_t received_ = 0;
};

// What enters and leaves the units.
class Trace {
  public:
    explicit Trace(const char* path) : file_(path ? std::fopen(path, "wb") : nullptr) {}

    void note(uint64_t cycle, uint32_t issue, uint32_t done) {
        if (!file_ || !(issue | done)) return;
        const Record record = {cycle, issue, done};
        std::fwrite(&record, sizeof record, 1, file_);
    }

    // What is noted so far can be read.
    void flush() {
        if (file_) std::fflush(file_);
    }

  private:
    struct Record {
        uint64_t cycle;
        uint32_t issue, done;
    };
    std::FILE* file_;
};

void tick(Vtop& top) {
    top.clk = 1;
#ifdef HALF_RATE
    top.clk2x = 1;
    top.eval();
    top.clk2x = 0;
    top.eval();
    top.clk = 0;
    top.clk2x = 1;
    top.eval();
    top.clk2x = 0;
#else
    top.eval();
    top.clk = 0;
#endif
    top.eval();
}

}  // namespace

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vtop top(&context);
    Line line(unsigned(std::atoi(argv[1])));
    Trace trace(argc > 2 ? argv[2] : nullptr);
    fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
    signal(SIGUSR1, [](int) { reset_wanted = 1; });
    uint64_t held = RESET;
    for (uint64_t cycle = 0;; ++cycle) {
        if (reset_wanted) {
            reset_wanted = 0;
            held = cycle + RESET;
        }
        top.rst = cycle < held;
        top.rx = line.drive();
        tick(top);
        line.sample(top.tx);
        trace.note(cycle, top.issue, top.done);
        // During a reset the line is idle.
        if (cycle % POLL == 0 && cycle > held + POLL && !line.sends() && !line.poll()) return 0;
        if (cycle % HEARTBEAT == 0) {
            trace.flush();
            tell('T', 0);
            if (top.violations) return 3;
        }
    }
}
